package smf

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/simreach/simreach/internal/ident"
)

// TestSelection is TS 23.501 clause 6.3.3 as far as it goes here.
func TestSelection(t *testing.T) {
	dnn := func(name ident.DNN, slices ...ident.SNSSAI) UPFDNN {
		return UPFDNN{DNN: name, SNSSAIs: slices, Pools: prefixes("10.0.0.0/29")}
	}
	other := ident.SNSSAI{SST: 2}
	table := newUPFTable(Config{RestoreWindow: 1, UPFs: []UPF{
		{Name: "any", DNNs: []UPFDNN{dnn("internet"), dnn("ims")}},
		{Name: "slice2", DNNs: []UPFDNN{dnn("internet", other)}},
		{Name: "meters", Groups: []string{"meters"}, DNNs: []UPFDNN{dnn("internet")}},
		{Name: "tac7", TACs: []ident.TAC{7}, Priority: -1, DNNs: []UPFDNN{dnn("internet", slice1)}},
		{Name: "down", Priority: -9, DNNs: []UPFDNN{dnn("internet"), dnn("lab")}},
	}}, 0)
	for _, u := range table.list[:4] {
		u.state = assocUp
	}
	for _, tt := range []struct {
		name string
		want criteria
		upf  string
		err  error
	}{
		{"the UPF that serves all", criteria{dnn: "internet", snssai: slice1}, "any", nil},
		{"least loaded next, by slice", criteria{dnn: "internet", snssai: other}, "slice2", nil},
		{"by group before load", criteria{dnn: "internet", snssai: slice1, group: "meters"}, "meters", nil},
		{"again by group", criteria{dnn: "internet", snssai: slice1, group: "meters"}, "meters", nil},
		{"a group nobody names", criteria{dnn: "internet", snssai: slice1, group: "cars"}, "any", nil},
		{"priority before load, by tracking area", criteria{dnn: "internet", snssai: slice1, tac: 7}, "tac7", nil},
		{"by DNN", criteria{dnn: "ims", snssai: slice1}, "any", nil},
		{"the next one when the first was tried", criteria{dnn: "internet", snssai: other, exclude: table.list[1:2]}, "any", nil},
		{"unknown DNN", criteria{dnn: "x"}, "", ErrNoUPF},
		{"associated nowhere", criteria{dnn: "lab", snssai: slice1}, "", ErrUPFDown},
		{"static address elsewhere", criteria{dnn: "ims", static: ident.UEAddress{V4: netip.MustParseAddr("192.0.2.1")}}, "", ErrStaticAddress},
	} {
		s := &session{dnn: tt.want.dnn}
		g, err := table.take(s, tt.want)
		got := ""
		if g.upf != nil {
			got = g.upf.cfg.Name
		}
		if got != tt.upf || !errors.Is(err, tt.err) {
			t.Errorf("%s: got %q %v, want %q %v", tt.name, got, err, tt.upf, tt.err)
		}
	}

	t.Log("full pools are passed over, and returned addresses counted")
	var held []*session
	var grants []grant
	for {
		s := &session{dnn: "internet"}
		g, err := table.take(s, criteria{dnn: "internet", snssai: slice1, tac: 7, group: "meters"})
		if err != nil {
			if !errors.Is(err, ErrPoolExhausted) {
				t.Errorf("got %v, want ErrPoolExhausted", err)
			}
			break
		}
		held, grants = append(held, s), append(grants, g)
	}
	names := map[string]int{}
	for i, s := range held {
		names[grants[i].upf.cfg.Name]++
		table.giveBack(s, grants[i])
	}
	if fmt.Sprint(names) != "map[any:2 meters:3 tac7:4]" {
		t.Errorf("got %v, want every pool used up", names)
	}
	if _, err := table.take(&session{dnn: "internet"}, criteria{dnn: "internet", snssai: slice1}); err != nil {
		t.Errorf("got %v, want an address after all were returned", err)
	}
}

// TestLoadIsShared: equal UPFs get equal numbers of sessions.
func TestLoadIsShared(t *testing.T) {
	var cfg Config
	for i := range 3 {
		cfg.UPFs = append(cfg.UPFs, UPF{Name: fmt.Sprint(i), DNNs: []UPFDNN{{DNN: "internet", Pools: prefixes("10.0.0.0/16")}}})
	}
	table := newUPFTable(cfg, 0)
	for _, u := range table.list {
		u.state = assocUp
	}
	for range 90 {
		if _, err := table.take(&session{dnn: "internet"}, criteria{dnn: "internet"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, u := range table.list {
		if len(u.sessions) != 30 {
			t.Errorf("UPF %s: got %d sessions, want 30", u.cfg.Name, len(u.sessions))
		}
	}
}

func TestByPeer(t *testing.T) {
	a := netip.MustParseAddr("127.0.0.1")
	table := newUPFTable(Config{UPFs: []UPF{
		{Name: "1", N4: netip.AddrPortFrom(a, 8805)}, {Name: "2", N4: netip.AddrPortFrom(a, 8806)}, {Name: "3", N4: upfAddr},
	}}, 0)
	for _, tt := range []struct {
		from netip.AddrPort
		want string
	}{
		{netip.AddrPortFrom(a, 8805), "1"},
		{netip.AddrPortFrom(a, 8806), "2"},
		{netip.AddrPortFrom(upfAddr.Addr(), 40000), "3"},
		{up2Addr, ""},
	} {
		got := ""
		if u := table.byPeer(tt.from); u != nil {
			got = u.cfg.Name
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.from, got, tt.want)
		}
	}
}
