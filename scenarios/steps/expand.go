package steps

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/simreach/simreach/scenarios/spec"
)

// replace puts value(KEY) in the place of each ${KEY} of a text. A dollar sign
// without a brace stands for itself, and $${ for ${.
func replace(text string, value func(key string) (string, error)) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		if strings.HasSuffix(before, "$") { // out has the dollar sign already
			out.WriteString("{")
			text = rest
			continue
		}
		key, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", fmt.Errorf("%q opens ${ and does not close it", text)
		}
		v, err := value(key)
		if err != nil {
			return "", err
		}
		out.WriteString(v)
		text = after
	}
}

const knownValues = "there are ${access.NAME.host}, ${access.NAME.port}, ${node.NAME.address}, ${client.NAME.address}, ${ue.NAME.address} and ${dir}; write $${ for a plain ${"

// checkTemplate refuses values that cannot be there, before anything runs.
func checkTemplate(st spec.Step, text string) error {
	_, err := replace(text, func(key string) (string, error) {
		part := strings.Split(key, ".")
		if key == "dir" || len(part) == 3 && (part[0] == "access" && (part[2] == "host" || part[2] == "port") ||
			(part[0] == "node" || part[0] == "client" || part[0] == "ue") && part[2] == "address") {
			return "", nil
		}
		return "", fmt.Errorf("unknown value ${%s}", key)
	})
	if err != nil {
		return st.Errorf(knownValues, "%v", err)
	}
	return nil
}

// expand replaces the ${...} of a text that checkTemplate has seen. Unknown names
// are errors, never empty.
func (e *Env) expand(text string) (string, error) { return replace(text, e.value) }

func (e *Env) value(key string) (string, error) {
	if key == "dir" {
		return e.Scratch, nil
	}
	part := strings.Split(key, ".")
	if len(part) != 3 {
		return "", fmt.Errorf("unknown value ${%s}", key)
	}
	if part[0] == "access" {
		g, err := e.one(part[1])
		if err != nil {
			return "", err
		}
		if part[2] == "port" {
			return strconv.Itoa(int(g.Relay.Port())), nil
		}
		return g.Relay.Addr().String(), nil
	}
	n, err := e.node(part[1])
	if err != nil {
		return "", err
	}
	if !n.Address().IsValid() {
		return "", fmt.Errorf("%s has no address now", part[1])
	}
	return n.Address().String(), nil
}
