package outer

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/simreach/simreach/manager"
	"github.com/simreach/simreach/relay"
)

const (
	protocolHTTP1 = "http/1.1"
	protocolHTTP2 = "h2"
)

// tlsServer has the settings of handshakes with clients (R18).
//
// ALPN (RFC 7301) negotiates what is spoken inside TLS, and that is for the device
// to say, which we do not ask. So the relay selects http/1.1 if the client offers it:
// browsers offer it beside h2, which a device that knows no TLS hardly speaks, and take
// an answer without ALPN for HTTP/1.1 as well. Otherwise it selects nothing, and the
// client may speak whatever it likes. Entries for several devices are HTTP/2 (R9b).
//
// A session may be resumed (RFC 8446 clause 2.2) wherever the client's certificate
// would be let in anew: crypto/tls has its chain and validity checked, and verify the
// rest.
type tlsServer struct {
	base    *tls.Config
	configs [2]*tls.Config // without a credential: for one device, for several
}

func newTLSServer(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tlsServer {
	s := &tlsServer{base: &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: certificate,
		// A record in one segment helps the first bytes of a web page over slow
		// links, and costs the throughput of all connections.
		DynamicRecordSizingDisabled: true,
	}}
	s.configs = s.configsFor(nil)
	return s
}

// configsFor makes the settings for clients that must show a certificate under cred;
// nil: none.
func (s *tlsServer) configsFor(cred *credential) [2]*tls.Config {
	plain := s.base.Clone()
	if cred != nil {
		plain.ClientAuth, plain.ClientCAs, plain.VerifyConnection = tls.RequireAndVerifyClientCert, cred.pool, cred.verify
	}
	many, http1 := plain.Clone(), plain.Clone()
	many.NextProtos, http1.NextProtos = []string{protocolHTTP2}, []string{protocolHTTP1}
	choose := func(hello *tls.ClientHelloInfo, config, tickets *tls.Config) (*tls.Config, error) {
		if w, ok := hello.Conn.(*wire); ok {
			return w.watched(config, tickets), nil
		}
		return config, nil
	}
	outer, outerMany := plain.Clone(), many.Clone()
	outer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedProtos, protocolHTTP1) {
			return choose(hello, http1, outer)
		}
		return choose(hello, plain, outer)
	}
	outerMany.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		return choose(hello, many, outerMany)
	}
	return [2]*tls.Config{outer, outerMany}
}

// verify checks what crypto/tls has not, of a client whose certificate has a valid
// chain to the CA. It is called for resumed sessions, too.
func (c *credential) verify(s tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("no certificate") // cannot be
	}
	return c.admits(peer{c.id, serialOf(s.PeerCertificates[0])})
}

// handshake has a client speak TLS, and prove who it is if cred asks for it (R14). The
// certificate that is not let in is told by an alert.
func (r *Relay) handshake(c *conn, client relay.Conn, cred *credential) (*tlsConn, peer, error) {
	begin := time.Now()
	configs := r.server.configs
	if cred != nil {
		configs = cred.configs
	}
	config := configs[0]
	if c.port.opening.Many {
		config = configs[1]
	}
	client, err := relay.InPoller(client)
	if err != nil {
		return nil, peer{}, deny(manager.CauseOverloaded, err)
	}
	// The deadline bounds it, and a cut resets the connection: no context is needed.
	_ = client.SetDeadline(begin.Add(r.cfg.HandshakeTimeout)) // fails only on a closed connection, as will the handshake
	w := newWire(client, r.buffers)
	t := tls.Server(w, config)
	if err := t.Handshake(); err != nil {
		return nil, peer{}, &denial{handshakeCause(err, cred), err}
	}
	_ = client.SetDeadline(time.Time{})
	s := t.ConnectionState()
	if c.port.opening.Many && s.NegotiatedProtocol != protocolHTTP2 {
		return nil, peer{}, deny(manager.CauseBadRequest, errNotHTTP2)
	}
	var who peer
	if cred != nil {
		who = peer{cred.id, serialOf(s.PeerCertificates[0])}
	}
	r.metrics.stage(stageHandshake, begin)
	part := func(c relay.Conn) { r.setups.Go(func() { linger(c, lingerRelayed) }) }
	return &tlsConn{Conn: t, wire: w, part: part}, who, nil
}

var errNotHTTP2 = errors.New("the client does not speak HTTP/2")

// handshakeCause names an error of a handshake.
func handshakeCause(err error, cred *credential) manager.Cause {
	if e, ok := errors.AsType[ending](err); ok {
		return manager.Cause(e) // what verify said
	}
	if invalid, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return certificateCause(invalid, cred)
	}
	remote := false
	if e, ok := errors.AsType[*net.OpError](err); ok {
		remote = e.Op == "remote error" // as crypto/tls calls an alert of the peer
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return manager.CauseTLSTimeout
	case remote:
		return manager.CauseTLSHandshake
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return manager.CauseClientReset
	case cred != nil && strings.Contains(err.Error(), missingCertificate):
		return manager.CauseCertificateMissing
	}
	return manager.CauseTLSHandshake
}

// missingCertificate is how crypto/tls, which has no type for it, says that the client
// sent no certificate. A test notices if that changes.
const missingCertificate = "client didn't provide a certificate"

func certificateCause(invalid *tls.CertificateVerificationError, cred *credential) manager.Cause {
	if e, ok := errors.AsType[x509.CertificateInvalidError](invalid.Err); ok && e.Reason == x509.Expired {
		return manager.CauseCertificateExpired
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](invalid.Err); ok && cred != nil && len(invalid.UnverifiedCertificates) > 0 {
		certs := invalid.UnverifiedCertificates
		if last := certs[len(certs)-1]; string(last.RawIssuer) == string(cred.ca.RawSubject) {
			return manager.CauseCertificateKey
		}
	}
	return manager.CauseCertificateUntrusted
}

// alertFirst tells a client that has not begun its handshake, or whose ClientHello
// was not read: an alert is sent in the clear then.
func alertFirst(c relay.Conn, cause manager.Cause) {
	_ = c.SetWriteDeadline(time.Now().Add(lingerTime))
	if _, err := c.Write(clearAlert(alertFor(cause))); err != nil {
		relay.Abort(c)
		return
	}
	linger(c, lingerBytes)
}

// alertLast tells a client whose handshake is over.
func (t *tlsConn) alertLast(_ relay.Conn, cause manager.Cause) {
	if !t.wire.last(alertFor(cause)) {
		relay.Abort(t)
		return
	}
	linger(t.wire.Conn, lingerBytes)
}

// afterHandshake returns how a client is told of a handshake that failed with err:
// crypto/tls has sent an alert where there was somebody to send one to.
func afterHandshake(err error) func(relay.Conn, manager.Cause) {
	d, ok := errors.AsType[*denial](err)
	if ok && (d.cause == manager.CauseTLSTimeout || d.cause == manager.CauseClientReset) {
		return abort
	}
	if _, plain := errors.AsType[tls.RecordHeaderError](err); plain {
		return abort
	}
	return func(c relay.Conn, _ manager.Cause) { linger(c, lingerBytes) }
}
