package node

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// configError says what is wrong in a configuration file and where: the YAML
// library tells the place of its own errors only, and that of a value that its
// type refuses (an address, a key) is found by decoding again. empty makes a
// configuration to decode into.
func configError(path string, text []byte, err error, empty func() Role) error {
	var ye yaml.Error
	if errors.As(err, &ye) {
		return placed(path, ye.GetToken(), ye.GetMessage())
	}
	file, perr := parser.ParseBytes(text, 0)
	if perr != nil || len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return placed(path, nil, err.Error())
	}
	root := file.Docs[0].Body
	n := culprit(root, func() bool { return yaml.NodeToValue(root, empty(), yaml.Strict()) != nil })
	return placed(path, n.GetToken(), err.Error()) // without the value: it may be a key
}

func placed(path string, t *token.Token, message string) error {
	if t != nil && t.Position != nil {
		path = fmt.Sprintf("%s:%d:%d", path, t.Position.Line, t.Position.Column)
	}
	return fmt.Errorf("configuration %s: %s", path, message)
}

// culprit returns the first value in n that makes decoding fail: it takes values in
// one by one until fails says so. n is left truncated.
func culprit(n ast.Node, fails func() bool) ast.Node {
	switch n := n.(type) {
	case *ast.MappingNode:
		all := n.Values
		for i := range all {
			if n.Values = all[:i+1]; fails() {
				return culprit(all[i].Value, fails)
			}
		}
	case *ast.SequenceNode:
		all := n.Values
		for i := range all {
			if n.Values = all[:i+1]; fails() {
				return culprit(all[i], fails)
			}
		}
	}
	return n
}
