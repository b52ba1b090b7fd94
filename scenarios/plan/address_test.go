package plan

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/simreach/simreach/scenarios/spec"
)

func TestEveryAddressIsUsedOnce(t *testing.T) {
	s := &spec.Spec{}
	for i := range spec.MaxPeers {
		u := fmt.Sprintf("upf%d", i)
		s.UPFs = append(s.UPFs, spec.UPF{Name: u})
		s.InnerRelays = append(s.InnerRelays, spec.InnerRelay{Name: fmt.Sprintf("inner%d", i), UPFs: []string{u}})
		s.OuterRelays = append(s.OuterRelays, spec.OuterRelay{Name: fmt.Sprintf("outer%d", i)})
		s.GNBs = append(s.GNBs, spec.GNB{Name: fmt.Sprintf("gnb%d", i)})
		s.Clients = append(s.Clients, spec.Client{Name: fmt.Sprintf("client%d", i)})
	}
	checkAddresses(t, s)
	s.InnerRelays = s.InnerRelays[:30] // as many as may stand outside
	for _, b := range spec.Boundaries() {
		s.Boundary = b
		checkAddresses(t, s)
	}
}

func checkAddresses(t *testing.T, s *spec.Spec) {
	t.Helper()
	owner := map[netip.Addr]string{Runner(s).Addr(): "the host"}
	for _, n := range Nodes(s) {
		as := Addresses(s, n)
		if len(as) == 0 {
			t.Errorf("%s has no address", n)
		}
		for _, a := range as {
			ip := a.Prefix.Addr()
			if other, taken := owner[ip]; taken {
				t.Errorf("%s of %s on %s is %s's too", ip, n, a.Network, other)
			}
			if !spec.Reserved.Contains(ip) {
				t.Errorf("%s of %s is outside %s", ip, n, spec.Reserved)
			}
			owner[ip] = n
		}
	}
}
