package smf

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestValidate: each fault is named with its field and what to do about it.
func TestValidate(t *testing.T) {
	if err := testConfig().Validate(); err != nil {
		t.Fatalf("the test configuration: %v", err)
	}
	for _, tt := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.NFID = "" }, "nf_id is empty: give"},
		{func(c *Config) { c.EventQueue = -1 }, "event_queue is -1: use"},
		{func(c *Config) { c.RestoreWindow = -1 }, "restore_window is -1: use"},
		{func(c *Config) { c.Timers.T3591 = -time.Second }, "timers.t3591 is -1s: use"},
		{func(c *Config) { c.Timers.N1 = -1 }, "timers.n1 is -1: use"},
		{func(c *Config) { c.Usage.Period = -1 }, "usage.period is -1ns: use"},
		{func(c *Config) { c.DNNs[0].Name = "" }, "dnns[0].name is empty: give"},
		{func(c *Config) { c.DNNs = append(c.DNNs, c.DNNs[0]) }, "dnns[1].name \"internet\" is listed twice: merge"},
		{func(c *Config) { c.UPFs[0].Name = "" }, "upfs[0].name \"\" is empty or used twice: give"},
		{func(c *Config) { c.UPFs = append(c.UPFs, c.UPFs[0]) }, "upfs[1].n4 \"10.0.4.2:8805\" is not a peer of its own: give"},
		{func(c *Config) { c.UPFs[0].N4 = netip.AddrPort{} }, "upfs[0].n4 \"invalid AddrPort\" is not a peer of its own: give"},
		{func(c *Config) { c.UPFs[0].DNNs = nil }, "upfs[0].dnns is empty: list"},
		{func(c *Config) { c.UPFs[0].DNNs[0].DNN = "x" }, "upfs[0].dnns[0].dnn \"x\" is not among dnns: add"},
		{func(c *Config) { c.UPFs[0].DNNs = append(c.UPFs[0].DNNs, c.UPFs[0].DNNs[0]) }, "upfs[0].dnns[1].dnn \"internet\" is listed twice: merge"},
		{func(c *Config) { c.UPFs[0].DNNs[0].Pools = nil }, "upfs[0].dnns[0].pools is empty: give"},
		{func(c *Config) { c.UPFs[0].DNNs[0].Pools = prefixes("10.0.0.0/16", "10.0.1.0/24") }, "pools[1] 10.0.1.0/24 overlaps 10.0.0.0/16"},
		{func(c *Config) { c.UPFs[0].DNNs[0].Pools = prefixes("10.0.0.1/16") }, "pools[0] 10.0.0.1/16 has host bits set: use 10.0.0.0/16"},
		{func(c *Config) { c.UPFs[0].DNNs[0].Pools = prefixes("2001:db8::/48") }, "IPv6 is not offered yet"},
		{func(c *Config) { c.UPFs[0].DNNs[0].Pools = prefixes("0.0.0.0/4") }, "larger than /8: split"},
		{func(c *Config) { c.UPFs[0].DNNs[0].Pools = []netip.Prefix{{}} }, "pools[0] is not a prefix: write"},
		{func(c *Config) { c.UPFs[0].DNNs[0].Reserved = prefixes("2001:db8::/48") }, "reserved[0] is not an IPv4 prefix: write"},
	} {
		c := testConfig()
		tt.change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want it to contain %q", err, tt.want)
		}
	}
	if _, err := New(testConfig(), Deps{}); err == nil {
		t.Error("New accepted empty Deps")
	}
}
