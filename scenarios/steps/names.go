package steps

import (
	"maps"
	"slices"
	"strings"

	"github.com/simreach/simreach/scenarios/spec"
)

// Names are what the steps so far have given names to. Steps run one after another
// and the first that fails ends the run, so what an earlier step did not make is not
// there: Check says so before anything starts.
type Names struct{ accesses, connections, programs, saved []string }

// Check wants everything that a step names to be there, and takes note of what it
// makes. The step has been compiled. Errors are *spec.Error.
func (n *Names) Check(s *spec.Spec, st spec.Step) error {
	switch st.Verb {
	case "access":
		return with(st, func(a accessArgs) error {
			if a.Refused == nil || a.Endpoint != "" {
				n.accesses = append(n.accesses, a.name())
			}
			return n.texts(s, st, a.Ranges, []string{a.Endpoint, a.Host})
		})
	case "revoke":
		return with(st, func(a revokeArgs) error { return there(st, "access", a.Access, n.accesses) })
	case "http":
		return with(st, func(a httpArgs) error { return there(st, "access", a.Access, n.accesses) })
	case "refused":
		return with(st, func(a refusedArgs) error { return there(st, "access", a.Access, n.accesses) })
	case "streams":
		return with(st, func(a streamsArgs) error { return there(st, "access", a.Access, n.accesses) })
	case "connect":
		return with(st, func(a connectArgs) error {
			n.connections = append(n.connections, a.name())
			return there(st, "access", a.Access, n.accesses)
		})
	case "exchange":
		return with(st, func(a exchangeArgs) error { return there(st, "connection", a.Connection, n.connections) })
	case "half_close":
		return with(st, func(a halfCloseArgs) error { return there(st, "connection", a.Connection, n.connections) })
	case "cut":
		return with(st, func(a cutArgs) error { return there(st, "connection", a.Connection, n.connections) })
	case "exec":
		return with(st, func(a execArgs) error {
			if a.As != "" {
				n.programs = append(n.programs, a.As)
			}
			return n.texts(s, st, a.Run, slices.Collect(maps.Values(a.Env)), []string{a.Stdin})
		})
	case "stop":
		return with(st, func(a stopArgs) error {
			err := there(st, "program", a.Program, n.programs)
			n.programs = slices.DeleteFunc(n.programs, func(name string) bool { return name == a.Program })
			return err
		})
	case "api":
		return with(st, func(a apiArgs) error {
			err := n.texts(s, st, []string{a.Call, a.Body}, slices.Collect(maps.Values(a.Match)))
			n.saved = slices.AppendSeq(n.saved, maps.Keys(a.Save)) // the answer is matched before
			return err
		})
	case "capture":
		return with(st, func(a captureArgs) error { return n.texts(s, st, a.Has, a.Lacks) })
	}
	return nil
}

// with gives a step's arguments to f.
func with[A any](st spec.Step, f func(A) error) error {
	var a A
	if err := st.Decode(&a); err != nil {
		return err
	}
	return f(a)
}

// texts checks the names in the ${...} of texts.
func (n *Names) texts(s *spec.Spec, st spec.Step, lists ...[]string) error {
	for _, text := range slices.Concat(lists...) {
		if _, err := replace(text, func(key string) (string, error) { return "", n.value(s, st, key) }); err != nil {
			return err
		}
	}
	return nil
}

func (n *Names) value(s *spec.Spec, st spec.Step, key string) error {
	kind, name, _ := strings.Cut(key, ".")
	first, _, _ := strings.Cut(name, ".")
	switch kind {
	case "api":
		return there(st, "saved value", name, n.saved)
	case "access":
		return there(st, "access", first, n.accesses)
	case "node", "client":
		return checkNode(s, st, first)
	case "ue":
		_, err := devices(s, st, first)
		return err
	}
	return nil
}

func there(st spec.Step, what, name string, all []string) error {
	if slices.Contains(all, name) {
		return nil
	}
	fix := "no earlier step makes one"
	if len(all) > 0 {
		names := slices.Compact(slices.Sorted(slices.Values(all)))
		fix = "earlier steps make " + strings.Join(names, ", ")
	}
	return st.Errorf(fix, "no %s is called %q here", what, name)
}
