package steps

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
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

const knownValues = "there are ${access.NAME.host|port|name}, ${node|client.NAME.address}, ${ue.NAME.address|imsi|sim_id}, ${api.NAME}, ${file.NAME}, ${operator}, ${ca}, ${simreach} and ${dir}; write $${ for a plain ${"

// fields are the values that nodes and accesses have.
var fields = map[string][]string{
	"access": {"host", "port", "name"},
	"node":   {"address"},
	"client": {"address"},
	"ue":     {"address", "imsi", "sim_id"},
}

// known reports whether a value can be there.
func known(key string) bool {
	switch key {
	case "dir", "ca", "simreach", "operator":
		return true
	}
	kind, name, ok := strings.Cut(key, ".")
	if !ok || name == "" {
		return false
	}
	if kind == "api" || kind == "file" {
		return true
	}
	part := strings.Split(key, ".")
	return len(part) == 3 && slices.Contains(fields[part[0]], part[2])
}

// checkTemplate refuses values that cannot be there, before anything runs.
func checkTemplate(st spec.Step, text string) error {
	_, err := replace(text, func(key string) (string, error) {
		if known(key) {
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
	kind, name, _ := strings.Cut(key, ".")
	switch kind {
	case "dir":
		return e.Scratch, nil
	case "simreach":
		return os.Executable()
	case "operator":
		return e.Lab.Manager().Operator(), nil
	case "ca":
		file := filepath.Join(e.Scratch, "relay-ca.pem")
		return file, os.WriteFile(file, e.Lab.Trust(), 0o644)
	case "file":
		return e.fileInJSON(name)
	case "api":
		e.mu.Lock()
		defer e.mu.Unlock()
		v, ok := e.saved[name]
		if !ok {
			return "", fmt.Errorf("no step has saved %q", name)
		}
		return v, nil
	}
	part := strings.Split(key, ".")
	if len(part) != 3 {
		return "", fmt.Errorf("unknown value ${%s}", key)
	}
	if kind == "access" {
		g, err := e.one(part[1])
		switch {
		case err != nil:
			return "", err
		case part[2] == "port":
			return strconv.Itoa(int(g.Relay.Port())), nil
		case part[2] == "name":
			return g.Host, nil
		}
		return g.Relay.Addr().String(), nil
	}
	if part[2] != "address" {
		d, ok := e.devices[part[1]]
		switch {
		case !ok:
			return "", fmt.Errorf("no UE is called %q", part[1])
		case part[2] == "sim_id":
			return d.SIMID, nil
		}
		return string(d.IMSI), nil
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
