package udm

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/nf/sbi"
)

// Protection schemes (TS 33.501 annex C.1).
const (
	schemeNull uint8 = 0
	schemeA    uint8 = 1
	schemeB    uint8 = 2
)

// maxIdentity bounds a SUPI or SUCI in text. A SUCI of profile B is under 150.
const maxIdentity = 512

var errSUCI = errors.New(`want "suci-0-<mcc>-<mnc>-<routing>-<scheme>-<key>-<output>"`)

// suci is a SUCI in the SBI's text form (TS 23.003 clause 28.7.3), SUPI type IMSI.
type suci struct {
	plmn   ident.PLMN
	scheme uint8
	keyID  uint8
	output string
}

func parseSUCI(s string) (suci, error) {
	f := strings.Split(s, "-")
	if len(f) != 8 || f[0] != "suci" || f[1] != "0" {
		return suci{}, errSUCI
	}
	out := suci{plmn: ident.PLMN{MCC: f[2], MNC: f[3]}, output: f[7]}
	if !out.plmn.Valid() || !digits(f[4], 1, 4) || len(f[5]) != 1 || f[7] == "" {
		return suci{}, errSUCI
	}
	scheme, err := strconv.ParseUint(f[5], 16, 4)
	if err != nil {
		return suci{}, errSUCI
	}
	key, err := strconv.ParseUint(f[6], 10, 8)
	if err != nil {
		return suci{}, errSUCI
	}
	out.scheme, out.keyID = uint8(scheme), uint8(key)
	return out, nil
}

func digits(s string, least, most int) bool {
	return len(s) >= least && len(s) <= most && strings.Trim(s, "0123456789") == ""
}

// identify turns a SUPI or SUCI into a SUPI; for a SUCI it is the SIDF of TS 33.501
// clause 6.12.5. It does not say whether the subscriber exists. Errors are
// *sbi.Problem.
func (u *UDM) identify(id string) (ident.SUPI, error) {
	if len(id) > maxIdentity {
		return "", problem(http.StatusBadRequest, sbi.CauseMandatoryIEIncorrect, "supiOrSuci: %d characters", len(id))
	}
	if strings.HasPrefix(id, "imsi-") {
		supi, err := ident.ParseSUPI(id)
		if err != nil {
			return "", problem(http.StatusBadRequest, sbi.CauseMandatoryIEIncorrect, "supiOrSuci: %v", err)
		}
		return supi, nil
	}
	s, err := parseSUCI(id)
	if err != nil {
		return "", problem(http.StatusBadRequest, sbi.CauseMandatoryIEIncorrect, "supiOrSuci: %v", err)
	}
	if s.plmn != u.cfg.PLMN {
		return "", problem(http.StatusNotFound, sbi.CauseUserNotFound, "the SUCI is of %s, not of the home network %s", s.plmn, u.cfg.PLMN)
	}
	msin, err := u.reveal(s)
	if err != nil {
		return "", err
	}
	supi, err := ident.ParseSUPI("imsi-" + s.plmn.MCC + s.plmn.MNC + msin)
	if err != nil {
		return "", problem(http.StatusBadRequest, sbi.CauseMandatoryIEIncorrect, "supiOrSuci: %v", err)
	}
	return supi, nil
}

// reveal returns the MSIN's digits.
func (u *UDM) reveal(s suci) (string, error) {
	if s.scheme == schemeNull {
		if !digits(s.output, 1, 10) {
			return "", problem(http.StatusBadRequest, sbi.CauseMandatoryIEIncorrect, "supiOrSuci: null scheme output of %d characters: want 1 to 10 digits", len(s.output))
		}
		return s.output, nil
	}
	key, ok := u.homeKeys[keyName{s.scheme, s.keyID}]
	if !ok {
		return "", rejected("no home network key %d for protection scheme %d", s.keyID, s.scheme)
	}
	output, err := hex.DecodeString(s.output)
	if err != nil {
		return "", problem(http.StatusBadRequest, sbi.CauseMandatoryIEIncorrect, "supiOrSuci: scheme output is not hexadecimal")
	}
	decrypt := aka.DecryptA
	if s.scheme == schemeB {
		decrypt = aka.DecryptB
	}
	bcd, err := decrypt(key, output)
	if err != nil {
		return "", rejected("reveal SUCI with home network key %d: %v", s.keyID, err)
	}
	msin, err := aka.MSINFromBCD(bcd)
	if err != nil {
		return "", rejected("reveal SUCI: %v", err)
	}
	return msin, nil
}

// String never shows the scheme output of a null scheme: it is the subscriber.
func (s suci) String() string {
	return fmt.Sprintf("suci of %s, scheme %d, key %d", s.plmn, s.scheme, s.keyID)
}
