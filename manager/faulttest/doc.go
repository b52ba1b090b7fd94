// Package faulttest is tests only. Some run managers, relays and PostgreSQL as processes
// with clients at work, kill them (SIGKILL) and check that nothing is lost of what was
// answered, relayed or to be audited. Another makes random calls of the REST interface
// and compares the answers with a model, on both engines of the store.
//
// The processes are this test binary under another name (see TestMain), so the race
// detector watches them when it watches the tests. They end with the test's process.
package faulttest
