package outer

import "sync"

// steps are what a connection that is being set up waits for, one after the other. The
// connection may be cut at any time, which interrupts the step that waits, and every later
// one at once.
type steps struct {
	mu          sync.Mutex // guards the rest
	stop        func()     // of the step that waits; nil: none does
	interrupted bool
}

// begin begins a step that stop interrupts; it must not block. false: it was interrupted
// already, and stop is not called.
func (s *steps) begin(stop func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.interrupted {
		return false
	}
	s.stop = stop
	return true
}

// end ends the step. false: it was interrupted.
func (s *steps) end() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = nil
	return !s.interrupted
}

// interrupt interrupts what waits now or later.
func (s *steps) interrupt() {
	s.mu.Lock()
	stop := s.stop
	s.stop, s.interrupted = nil, true
	s.mu.Unlock()
	if stop != nil {
		stop()
	}
}
