package ue

import (
	"fmt"
	"io"

	"github.com/simreach/simreach/internal/aka"
	"github.com/simreach/simreach/internal/wire/nas"
)

// conceal builds a SUCI (TS 33.501 clause 6.12.2 and annex C.3). With ECIES each
// call uses a fresh ephemeral key from rnd.
func (c Config) conceal(rnd io.Reader) (*nas.SUCI, error) {
	plmn, msin := c.home()
	s := &nas.SUCI{PLMN: plmn, RoutingIndicator: c.RoutingIndicator, Scheme: c.Scheme, KeyID: c.HomeKeyID}
	if s.RoutingIndicator == "" {
		s.RoutingIndicator = "0"
	}
	bcd, err := aka.MSINToBCD(msin)
	if err != nil {
		return nil, fmt.Errorf("conceal %s: %w", c.SUPI, err)
	}
	switch c.Scheme {
	case 0:
		s.KeyID, s.SchemeOutput = 0, bcd
	case 1:
		s.SchemeOutput, err = aka.ConcealA(c.HomeKey, bcd, rnd)
	default:
		s.SchemeOutput, err = aka.ConcealB(c.HomeKey, bcd, rnd)
	}
	if err != nil {
		return nil, fmt.Errorf("conceal %s: %w", c.SUPI, err)
	}
	return s, nil
}
