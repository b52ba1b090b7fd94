package steps

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/simreach/simreach/internal/pki"
	"github.com/simreach/simreach/scenarios/spec"
)

// certificateArgs: a client certificate is made (R1, R14), and the CA that issues it if
// there is none of that name yet. The run's directory then has NAME.pem and NAME.key of
// the certificate, and CA.pem and CA.pub (the public key) of the CA.
type certificateArgs struct {
	As       string `yaml:"as"`
	CA       string `yaml:"ca"`       // empty: "ca"
	Key      string `yaml:"key"`      // ecdsa, rsa or ed25519; empty: ecdsa
	Expired  bool   `yaml:"expired"`  // it was in force, and is no more
	Impostor bool   `yaml:"impostor"` // issued by another CA that has taken the name
}

var fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*$`)

func compileCertificate(_ *spec.Spec, st spec.Step) (Action, error) {
	a := certificateArgs{CA: "ca", Key: "ecdsa"}
	if err := st.Decode(&a); err != nil {
		return nil, err
	}
	if !fileName.MatchString(a.As) || !fileName.MatchString(a.CA) || a.As == a.CA {
		return nil, st.Errorf("two names of letters, digits and hyphens that differ", "certificate %q of CA %q", a.As, a.CA)
	}
	switch a.Key {
	case "ecdsa", "rsa", "ed25519":
	default:
		return nil, st.Errorf("ecdsa, rsa or ed25519", "unknown kind of key %q", a.Key)
	}
	return func(_ context.Context, e *Env) error {
		ca, err := e.authority(a.CA)
		if err != nil {
			return fmt.Errorf("certificate %s: %w", a.As, err)
		}
		if a.Impostor {
			if ca, err = pki.NewAuthority(pki.AuthorityConfig{Name: a.CA}); err != nil {
				return fmt.Errorf("certificate %s: %w", a.As, err)
			}
		}
		r := pki.Client(a.As)
		r.Key = pki.KeyType(a.Key)
		if a.Expired {
			r.NotBefore, r.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		}
		pair, err := ca.Issue(r)
		if err == nil {
			_, _, err = pair.WriteFiles(e.Scratch, a.As)
		}
		if err != nil {
			return fmt.Errorf("certificate %s: %w", a.As, err)
		}
		return nil
	}, nil
}

// authority returns the CA with a name; it is made when it is first asked for.
func (e *Env) authority(name string) (*pki.Authority, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ca, ok := e.authorities[name]; ok {
		return ca, nil
	}
	ca, err := pki.NewAuthority(pki.AuthorityConfig{Name: name})
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(ca.Certificate().PublicKey)
	if err != nil {
		return nil, err
	}
	for file, text := range map[string][]byte{
		name + ".pem": ca.PEM(),
		name + ".pub": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
	} {
		if err := os.WriteFile(filepath.Join(e.Scratch, file), text, 0o600); err != nil {
			return nil, err
		}
	}
	e.authorities[name] = ca
	return ca, nil
}
