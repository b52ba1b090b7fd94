package ue

import (
	"context"
	"errors"
	"fmt"

	"github.com/simreach/simreach/internal/ident"
)

// command posts f to the loop and waits for the operation it names.
func (u *UE) command(ctx context.Context, f func(*machine) (op, error)) (SessionInfo, error) {
	done := make(chan result, 1)
	err := u.post(ctx, func(l *loop) {
		if ctx.Err() != nil {
			return
		}
		o, err := f(l.m)
		if err != nil {
			done <- result{err: err}
			return
		}
		l.waiters[o] = append(l.waiters[o], done)
	})
	if err != nil {
		return SessionInfo{}, err
	}
	select {
	case r := <-done:
		return r.info, r.err
	case <-ctx.Done():
		if last := u.Status().Err; last != nil {
			return SessionInfo{}, errors.Join(ctx.Err(), last)
		}
		return SessionInfo{}, ctx.Err()
	case <-u.ended:
		select {
		case r := <-done:
			return r.info, r.err
		default:
			return SessionInfo{}, ErrStopped
		}
	}
}

// Register switches the UE on if need be and registers it through gnb (empty: by
// the order of Config.GNBs). It waits over failures of the radio and of single
// attempts and returns *RegistrationRejected or *AuthenticationFailed when the
// network or the UE refused, ErrNoAnswer after the last attempt, or ctx.Err()
// joined with the last failure. A registered UE returns at once, or moves to gnb.
func (u *UE) Register(ctx context.Context, gnb string) error {
	_, err := u.command(ctx, func(m *machine) (op, error) {
		m.commandRegister(gnb)
		return op{kind: opRegister}, nil
	})
	return wrap("register", u.cfg.SUPI, err)
}

// MoveTo leaves the present cell and registers from gnb (mobility registration),
// keeping the PDU sessions. It returns ErrNotRegistered, ErrBusy or what Register
// returns.
func (u *UE) MoveTo(ctx context.Context, gnb string) error {
	_, err := u.command(ctx, func(m *machine) (op, error) {
		m.commandMove(gnb)
		return op{kind: opMove}, nil
	})
	return wrap("move to "+gnb, u.cfg.SUPI, err)
}

// Deregister deregisters. With switchOff it returns when the request is sent and
// the UE ends switched off; else when the network has accepted or T3521 gave up.
// A UE that is not registered returns nil.
func (u *UE) Deregister(ctx context.Context, switchOff bool) error {
	_, err := u.command(ctx, func(m *machine) (op, error) {
		m.commandDeregister(switchOff)
		return op{kind: opDeregister}, nil
	})
	return wrap("deregister", u.cfg.SUPI, err)
}

// EstablishSession establishes a PDU session and returns when its IP interface is
// open. It is wanted from then on: established again after a new registration,
// until ReleaseSession. It returns *SessionRejected, *NotForwarded,
// ErrNotRegistered, ErrBusy, ErrNoAnswer or ErrDeregistered. A session that is
// being or has been established is joined.
func (u *UE) EstablishSession(ctx context.Context, c SessionConfig) (SessionInfo, error) {
	info, err := u.command(ctx, func(m *machine) (op, error) { return m.commandEstablish(c) })
	return info, wrap("establish PDU session", u.cfg.SUPI, err)
}

// ModifySession runs a UE-requested modification that asks for nothing new. It
// returns *SessionRejected, ErrUnknownSession, ErrBusy or ErrNoAnswer.
func (u *UE) ModifySession(ctx context.Context, id ident.PDUSessionID) error {
	_, err := u.command(ctx, func(m *machine) (op, error) { return op{opModify, id}, m.commandModify(id) })
	return wrap("modify PDU session", u.cfg.SUPI, err)
}

// ReleaseSession releases a PDU session on both sides. It returns *SessionRejected,
// ErrUnknownSession, ErrBusy, or ErrNoAnswer after a local release.
func (u *UE) ReleaseSession(ctx context.Context, id ident.PDUSessionID) error {
	_, err := u.command(ctx, func(m *machine) (op, error) { return op{opRelease, id}, m.commandRelease(id) })
	return wrap("release PDU session", u.cfg.SUPI, err)
}

// PowerOff drops the radio without any signalling, as an empty battery does. The
// network keeps what it knew. USIM and security context survive for Register.
func (u *UE) PowerOff(ctx context.Context) error {
	done := make(chan struct{})
	if err := u.post(ctx, func(l *loop) { l.search(); l.m.powerOff(); close(done) }); err != nil {
		return wrap("power off", u.cfg.SUPI, err)
	}
	select {
	case <-done:
	case <-u.ended:
	}
	// The loop publishes the new state right after.
	return u.Wait(ctx, func(s Status) bool { return s.State == MMNull })
}

func wrap(what string, supi ident.SUPI, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s: %w", supi, what, err)
}
