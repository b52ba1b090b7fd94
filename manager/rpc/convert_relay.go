package rpc

import (
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	pb "github.com/simreach/simreach/manager/rpc/relayv1"
)

func timeToPB(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func loadToPB(l manager.RelayLoad) *pb.Load {
	return &pb.Load{
		Live: uint64(max(l.Live, 0)), Accepted: l.Accepted, Opened: l.Opened, Denied: l.Denied, Up: l.Up, Down: l.Down,
		Entries: uint64(max(l.Entries, 0)), Draining: l.Draining, Unaudited: l.Unaudited, At: timeToPB(l.At),
	}
}

// maxCauses bounds the causes in a report: there are fewer.
const maxCauses = 64

func loadFromPB(m *pb.Load) manager.RelayLoad {
	if len(m.GetDenied()) > maxCauses {
		m.Denied = nil
	}
	return manager.RelayLoad{
		Live: int(min(m.GetLive(), 1<<31)), Accepted: m.GetAccepted(), Opened: m.GetOpened(), Denied: m.GetDenied(), Up: m.GetUp(), Down: m.GetDown(),
		Entries: int(min(m.GetEntries(), 1<<31)), Draining: m.GetDraining(), Unaudited: m.GetUnaudited(), At: timeOf(m.GetAt()),
	}
}

func pingToPB(p manager.Ping) *pb.Ping {
	return &pb.Ping{Device: p.Device.String(), Count: uint32(max(p.Count, 0)), TimeoutMs: uint32(p.Timeout.Milliseconds())}
}

func pingFromPB(m *pb.Ping) (manager.Ping, error) {
	a, err := netip.ParseAddr(m.GetDevice())
	if err != nil {
		return manager.Ping{}, fmt.Errorf("%w: device: %w", errMessage, err)
	}
	return manager.Ping{Device: a, Count: int(m.GetCount()), Timeout: time.Duration(m.GetTimeoutMs()) * time.Millisecond}, nil
}

func placesToPB(places []manager.Place) []*pb.Place {
	out := make([]*pb.Place, len(places))
	for i, p := range places {
		out[i] = &pb.Place{Imsi: string(p.IMSI), InnerId: string(p.Inner), Device: p.Address.String()}
	}
	return out
}

func placesFromPB(places []*pb.Place) ([]manager.Place, error) {
	out := make([]manager.Place, len(places))
	for i, p := range places {
		a, err := netip.ParseAddr(p.GetDevice())
		if err != nil {
			return nil, fmt.Errorf("%w: place: %w", errMessage, err)
		}
		out[i] = manager.Place{IMSI: ident.IMSI(p.GetImsi()), Inner: manager.RelayID(p.GetInnerId()), Address: a}
	}
	return out, nil
}

func credentialToPB(c manager.Credential) *pb.Credential {
	return &pb.Credential{
		Id: string(c.ID), OperatorId: string(c.OperatorID), Name: c.Name, Ca: c.CA, PublicKey: c.PublicKey,
		Created: timeToPB(c.Created), Revoked: timeToPB(c.Revoked), RevokedSerials: c.RevokedSerials,
	}
}

func credentialFromPB(m *pb.Credential) manager.Credential {
	return manager.Credential{
		ID: manager.CredentialID(m.GetId()), OperatorID: manager.OperatorID(m.GetOperatorId()), Name: m.GetName(),
		CA: m.GetCa(), PublicKey: m.GetPublicKey(), Created: timeOf(m.GetCreated()), Revoked: timeOf(m.GetRevoked()),
		RevokedSerials: m.GetRevokedSerials(),
	}
}
