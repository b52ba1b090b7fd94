package ngap

import (
	"encoding/hex"
	"testing"

	"github.com/free5gc/aper"
	"github.com/free5gc/ngap/ngapType"
	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"

	"github.com/simreach/simreach/internal/testenv"
)

// someConnections returns n connections with identifiers of every length.
func someConnections(n int) (ids []PartialIDs) {
	for i := range n {
		var id PartialIDs
		if i%3 != 1 {
			id.AMF = ptr(int64(1)<<(i%40) | int64(i))
		}
		if i%3 != 0 {
			id.RAN = ptr(uint32(1)<<(i%32) | uint32(i))
		}
		ids = append(ids, id)
	}
	return ids
}

// Where the codec library can do it, both do it alike.
func TestConnectionsAsTheLibrary(t *testing.T) {
	ids := someConnections(127)
	var list ngapType.UEAssociatedLogicalNGConnectionList
	for _, id := range ids {
		var item ngapType.UEAssociatedLogicalNGConnectionItem
		if id.AMF != nil {
			item.AMFUENGAPID = &ngapType.AMFUENGAPID{Value: *id.AMF}
		}
		if id.RAN != nil {
			item.RANUENGAPID = &ngapType.RANUENGAPID{Value: int64(*id.RAN)}
		}
		list.List = append(list.List, item)
	}
	want, err := aper.MarshalWithParams(list, "")
	if err != nil {
		t.Fatal(err)
	}
	got, err := connectionsValue(ids)
	if err != nil || hex.EncodeToString(got) != hex.EncodeToString(want) {
		t.Errorf("%v\n got %x\nwant %x", err, got, want)
	}
}

func TestManyConnections(t *testing.T) {
	var pdus [][]byte
	for _, n := range []int{1, 127, 128, 1000} {
		for _, m := range []Message{
			&NGReset{Cause: MiscOMIntervention, Connections: someConnections(n)},
			&NGResetAcknowledge{Connections: someConnections(n)},
		} {
			b, err := Encode(m)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Decode(b)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(m, got, equal); d != "" {
				t.Errorf("%d connections (-want +got):\n%s", n, d)
			}
			pdus = append(pdus, b)
		}
	}
	for _, bad := range []string{"", "00", "80", "c1", "01", "0100", "0110", "0140", "0180", "0240600700"} {
		if ids, err := parseConnections(unhex(t, bad)); err == nil {
			t.Errorf("%q: %v, want an error", bad, ids)
		}
	}
	t.Run("tshark", func(t *testing.T) {
		var packets [][]gopacket.SerializableLayer
		for i, b := range pdus {
			packets = append(packets, testenv.SCTPData(t, uint32(i+1), b))
		}
		for i, remarks := range testenv.Dissect(t, "ngap", packets) {
			if remarks != "" {
				t.Errorf("message %d: %s", i, remarks)
			}
		}
	})
}
