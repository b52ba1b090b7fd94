package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/simreach/simreach/manager/api"
)

// apiFlags say where the manager is and who asks.
type apiFlags struct {
	api, ca                    string
	authKeyID, authKeyFile     string
	email, operator, user, otp string
	passwordFile               string
}

func (f *apiFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.api, "api", "", "URL of the manager, such as https://manager:8080 (SIMREACH_API)")
	fs.StringVar(&f.ca, "ca", "", "PEM file of the CAs that manager and relays are trusted by; empty: the system's (SIMREACH_CA)")
	fs.StringVar(&f.authKeyID, "auth-key-id", "", "log in with this authentication key (SIMREACH_AUTH_KEY_ID)")
	fs.StringVar(&f.authKeyFile, "auth-key-file", "", "file with its secret; empty: SIMREACH_AUTH_KEY")
	fs.StringVar(&f.email, "email", "", "log in as the root user (SIMREACH_EMAIL)")
	fs.StringVar(&f.operator, "operator", "", "with --user: the operator's ID (SIMREACH_OPERATOR_ID)")
	fs.StringVar(&f.user, "user", "", "log in as a SAM user (SIMREACH_USER_NAME)")
	fs.StringVar(&f.passwordFile, "password-file", "", "file with the password; empty: SIMREACH_PASSWORD")
	fs.StringVar(&f.otp, "otp", "", "one-time password, where multi-factor authentication is on")
}

// maxSecret bounds a file with a secret, in bytes.
const maxSecret = 4 << 10

// secret reads a secret from a file, or else from the environment.
func secret(what, file, variable string) (string, error) {
	if file == "" {
		s := os.Getenv(variable)
		if s == "" {
			return "", fmt.Errorf("no %s: give --%s-file or set %s", what, strings.ReplaceAll(what, " ", "-"), variable)
		}
		return s, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read the %s: %w", what, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("read the %s: %w", what, err)
	}
	s := strings.TrimRight(string(b), "\r\n")
	if s == "" || len(b) > maxSecret {
		return "", fmt.Errorf("read the %s: %s: want 1 to %d bytes", what, file, maxSecret)
	}
	return s, nil
}

// request returns the login. Flags come before the environment; an authentication key
// before a password.
func (f *apiFlags) request() (api.AuthRequest, error) {
	given := 0
	for _, s := range []string{f.authKeyID, f.email, f.user} {
		if s != "" {
			given++
		}
	}
	if given > 1 {
		return api.AuthRequest{}, errors.New("give one of --auth-key-id, --email and --user")
	}
	keyID, email, user := f.authKeyID, f.email, f.user
	if given == 0 {
		keyID, email, user = os.Getenv("SIMREACH_AUTH_KEY_ID"), os.Getenv("SIMREACH_EMAIL"), os.Getenv("SIMREACH_USER_NAME")
	}
	r := api.AuthRequest{MFAOTPCode: f.otp}
	var err error
	switch {
	case keyID != "":
		r.AuthKeyID = keyID
		r.AuthKey, err = secret("auth key", f.authKeyFile, "SIMREACH_AUTH_KEY")
		return r, err
	case email != "":
		r.Email = email
	case user != "":
		r.UserName, r.OperatorID = user, cmp.Or(f.operator, os.Getenv("SIMREACH_OPERATOR_ID"))
		if r.OperatorID == "" {
			return r, errors.New("no operator: --user needs --operator or SIMREACH_OPERATOR_ID")
		}
	default:
		return r, errors.New("no login: give --auth-key-id, --email or --user, or set SIMREACH_AUTH_KEY_ID and SIMREACH_AUTH_KEY")
	}
	r.Password, err = secret("password", f.passwordFile, "SIMREACH_PASSWORD")
	return r, err
}

// roots returns the CAs to trust; nil for the system's.
func (f *apiFlags) roots() (*x509.CertPool, error) {
	file := cmp.Or(f.ca, os.Getenv("SIMREACH_CA"))
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the CAs: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read the CAs: %s: no certificate in PEM form", file)
	}
	return pool, nil
}

// Lives of the token that a command asks for. The second is the longest there is.
const (
	shortLogin = 10 * time.Minute
	longLogin  = 48 * time.Hour
)

// patienceAPI bounds one request to the manager, and patienceEnd those that a command
// makes when it ends.
const (
	patienceAPI = 60 * time.Second
	patienceEnd = 5 * time.Second
)

// session is a client of the manager that is logged in. Whoever got it closes it.
type session struct {
	*api.Client
	long bool
}

// login logs in for at most lifetime.
func (f *apiFlags) login(ctx context.Context, lifetime time.Duration) (*session, error) {
	where := cmp.Or(f.api, os.Getenv("SIMREACH_API"))
	if where == "" {
		return nil, errors.New("no manager: give --api or set SIMREACH_API")
	}
	u, err := url.Parse(where)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("--api %q: want http://HOST:PORT or https://HOST:PORT", where)
	}
	who, err := f.request()
	if err != nil {
		return nil, err
	}
	pool, err := f.roots()
	if err != nil {
		return nil, err
	}
	life := int64(lifetime / time.Second)
	who.TokenTimeoutSeconds = &life
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 30 * time.Second,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool},
	}
	c, err := api.Client{URL: where, HTTP: &http.Client{Transport: t, Timeout: patienceAPI}}.Login(ctx, who)
	if err != nil {
		t.CloseIdleConnections()
		return nil, err
	}
	return &session{c, lifetime > shortLogin}, nil
}

// close ends the session, at the manager too if its token would live on for long.
func (s *session) close(ctx context.Context) {
	if s.long {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patienceEnd)
		_ = s.Logout(ctx) // the token ends by itself if the manager cannot be told
		cancel()
	}
	s.HTTP.CloseIdleConnections()
}
