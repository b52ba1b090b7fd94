package rpc

// protoc must be installed; the plugins are built from the versions in go.mod.

//go:generate go build -o ./relayv1/.plugins/protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go
//go:generate go build -o ./relayv1/.plugins/protoc-gen-connect-go connectrpc.com/connect/cmd/protoc-gen-connect-go
//go:generate protoc -I relayv1 --plugin=relayv1/.plugins/protoc-gen-go --plugin=relayv1/.plugins/protoc-gen-connect-go --go_out=relayv1 --go_opt=paths=source_relative --connect-go_out=relayv1 --connect-go_opt=paths=source_relative relay.proto
//go:generate rm -r ./relayv1/.plugins
