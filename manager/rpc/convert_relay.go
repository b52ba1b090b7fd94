package rpc

import (
	"errors"
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

func resolveToPB(session string, id uint64, q manager.ResolveRequest) *pb.ResolveRequest {
	return &pb.ResolveRequest{
		Session: session, Id: id, Hit: q.Hit.String(), Client: formatAddrPort(q.Client), ConnectionId: q.ConnectionID, Target: q.Target,
	}
}

func resolveFromPB(m *pb.ResolveRequest) (manager.ResolveRequest, error) {
	hit, err := parseAddrPort("hit", m.GetHit())
	if err != nil {
		return manager.ResolveRequest{}, err
	}
	return manager.ResolveRequest{
		Hit: hit, Client: optionalAddrPort(m.GetClient()), ConnectionID: m.GetConnectionId(), Target: m.GetTarget(),
	}, nil
}

func routeToPB(r manager.Route) *pb.Route {
	m := &pb.Route{
		EntryId: string(r.EntryID), ConnectionId: r.ConnectionID, Expires: timestamppb.New(r.Expires), Device: r.Device.String(),
		InnerId: string(r.InnerID), Inner: r.Inner.String(), Ticket: r.Ticket,
		OperatorId: string(r.OperatorID), Imsi: string(r.IMSI), SimId: r.SIMID, Tls: r.TLS,
		CredentialId: string(r.CredentialID), ProxyProtocol: r.ProxyProtocol,
	}
	if len(r.Ranges) > 0 {
		m.Ranges = make([]string, len(r.Ranges))
		for i, p := range r.Ranges {
			m.Ranges[i] = p.String()
		}
	}
	return m
}

func routeFromPB(m *pb.Route) (manager.Route, error) {
	device, err1 := parseAddrPort("device", m.GetDevice())
	inner, err2 := parseAddrPort("inner", m.GetInner())
	if err := errors.Join(err1, err2); err != nil {
		return manager.Route{}, err
	}
	r := manager.Route{
		EntryID: manager.EntryID(m.GetEntryId()), ConnectionID: m.GetConnectionId(), Expires: timeOf(m.GetExpires()), Device: device,
		InnerID: manager.RelayID(m.GetInnerId()), Inner: inner, Ticket: m.GetTicket(),
		OperatorID: manager.OperatorID(m.GetOperatorId()), IMSI: ident.IMSI(m.GetImsi()), SIMID: m.GetSimId(), TLS: m.GetTls(),
		CredentialID: manager.CredentialID(m.GetCredentialId()), ProxyProtocol: m.GetProxyProtocol(),
	}
	for _, s := range m.GetRanges() {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return manager.Route{}, fmt.Errorf("%w: range: %w", errMessage, err)
		}
		r.Ranges = append(r.Ranges, p)
	}
	return r, nil
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

func auditToPB(r manager.AuditRecord) *pb.AuditRecord {
	return &pb.AuditRecord{
		Id: r.ID, Type: string(r.Type), AtMs: r.At.UnixMilli(), OperatorId: string(r.OperatorID), EntryId: string(r.EntryID),
		ConnectionId: r.ConnectionID, Imsi: string(r.IMSI), SimId: r.SIMID, RelayId: string(r.RelayID),
		Source: formatAddrPort(r.Source), Destination: formatAddrPort(r.Destination), DevicePort: uint32(r.DevicePort),
		Tls: r.TLS, Cause: string(r.Cause), Up: r.Up, Down: r.Down,
	}
}

func auditFromPB(m *pb.AuditRecord) manager.AuditRecord {
	return manager.AuditRecord{
		ID: m.GetId(), Type: manager.AuditType(m.GetType()), At: time.UnixMilli(m.GetAtMs()).UTC(), OperatorID: manager.OperatorID(m.GetOperatorId()),
		EntryID: manager.EntryID(m.GetEntryId()), ConnectionID: m.GetConnectionId(), IMSI: ident.IMSI(m.GetImsi()), SIMID: m.GetSimId(),
		RelayID: manager.RelayID(m.GetRelayId()), Source: optionalAddrPort(m.GetSource()), Destination: optionalAddrPort(m.GetDestination()),
		DevicePort: uint16(min(m.GetDevicePort(), 65535)), TLS: m.GetTls(), Cause: manager.Cause(m.GetCause()), Up: m.GetUp(), Down: m.GetDown(),
	}
}
