package steps

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// expand replaces ${...} in a text. Unknown names are errors, never empty.
func (e *Env) expand(text string) (string, error) {
	var bad error
	out := os.Expand(text, func(key string) string {
		v, err := e.value(key)
		if err != nil && bad == nil {
			bad = err
		}
		return v
	})
	return out, bad
}

func (e *Env) value(key string) (string, error) {
	if key == "dir" {
		return e.Scratch, nil
	}
	part := strings.Split(key, ".")
	if len(part) == 3 {
		switch part[0] {
		case "access":
			g, err := e.one(part[1])
			if err != nil {
				return "", err
			}
			switch part[2] {
			case "host":
				return g.Relay.Addr().String(), nil
			case "port":
				return strconv.Itoa(int(g.Relay.Port())), nil
			}
		case "node", "client", "ue":
			n, err := e.node(part[1])
			if err != nil {
				return "", err
			}
			if part[2] == "address" {
				return n.Address().String(), nil
			}
		}
	}
	return "", fmt.Errorf("unknown value ${%s}: there are ${access.NAME.host}, ${access.NAME.port}, ${node.NAME.address} and ${dir}", key)
}
