// Package webhook sends the web requests of event handlers over the network. A
// [Client] owns no goroutine beyond those of its connections, which end with Run.
//
// Whoever may make an event handler can have the manager's host send a request of at most
// 8 KB to where [Config] lets it, and learns nothing of the answer.
package webhook
