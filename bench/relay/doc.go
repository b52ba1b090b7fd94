// Package relay is `simreach bench relay`: two relays of ours between a client and a
// server, beside the same with HAProxy, nginx and a plain Go io.Copy, and beside no
// relay at all, in network namespaces of one machine. The variants take turns within
// each round; everything started is ended by its process ID, and the namespaces are
// removed. It needs root.
package relay
