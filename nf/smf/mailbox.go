package smf

import "sync"

// mailbox is an unbounded queue with one reader. Posting never blocks, so that
// nobody who posts can be held up by the owner of the state. What can be posted
// is bounded by its sources: each API call waits for its answer, and PFCP
// requests are acknowledged by the owner.
type mailbox[T any] struct {
	ready chan struct{} // holds one token while there is something to take

	mu     sync.Mutex // guards what follows
	queue  []T
	closed bool
}

func newMailbox[T any]() *mailbox[T] { return &mailbox[T]{ready: make(chan struct{}, 1)} }

// post reports false when the reader has gone.
func (m *mailbox[T]) post(v T) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.queue = append(m.queue, v)
	select {
	case m.ready <- struct{}{}:
	default:
	}
	return true
}

// take returns everything queued.
func (m *mailbox[T]) take() []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queue
	m.queue = nil
	return q
}

// close refuses further posts and returns what was never read.
func (m *mailbox[T]) close() []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	q := m.queue
	m.queue = nil
	return q
}
