package rpc

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/simreach/simreach/internal/ident"
	"github.com/simreach/simreach/manager"
	pb "github.com/simreach/simreach/manager/rpc/relayv1"
)

// maxDetail bounds the text of one failure, of which an answer may have as many as
// there are ports.
const maxDetail = 160

// What is wrong with a peer's message; the manager's side answers with
// CodeInvalidArgument, the relay's side attaches again.
var errMessage = errors.New("unexpected message")

func parseAddrPort(name, s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %s: %w", errMessage, name, err)
	}
	return a, nil
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func helloToPB(r manager.Relay) *pb.Hello {
	return &pb.Hello{
		RelayId: string(r.ID), Kind: pb.RelayKind(r.Kind), Instance: r.Instance, Address: r.Address.String(),
		FirstPort: uint32(r.Ports.First), LastPort: uint32(r.Ports.Last), Region: r.Region, Live: uint32(max(r.Live, 0)), Draining: r.Draining,
	}
}

func helloFromPB(h *pb.Hello) (manager.Relay, error) {
	a, err := parseAddrPort("address", h.GetAddress())
	if err != nil {
		return manager.Relay{}, err
	}
	if h.GetKind() < 0 || h.GetKind() > pb.RelayKind_RELAY_KIND_INNER || h.GetFirstPort() > 65535 || h.GetLastPort() > 65535 {
		return manager.Relay{}, fmt.Errorf("%w: kind or port out of range", errMessage)
	}
	return manager.Relay{
		ID: manager.RelayID(h.GetRelayId()), Kind: manager.RelayKind(h.GetKind()), Instance: h.GetInstance(), Address: a,
		Ports:  manager.PortRange{First: uint16(h.GetFirstPort()), Last: uint16(h.GetLastPort())},
		Region: h.GetRegion(), Live: int(h.GetLive()), Draining: h.GetDraining(),
	}, nil
}

func openingsToPB(os []manager.Opening) []*pb.Opening {
	out := make([]*pb.Opening, len(os))
	for i, o := range os {
		out[i] = &pb.Opening{
			EntryId: string(o.EntryID), Address: o.Address.String(), Expires: timestamppb.New(o.Expires),
			OperatorId: string(o.OperatorID), Imsi: string(o.IMSI), SimId: o.SIMID, DevicePort: uint32(o.DevicePort),
			Tls: o.TLS, CredentialId: string(o.CredentialID), Many: o.Many, Traceparent: o.Trace,
		}
		for _, p := range o.Ranges {
			out[i].Ranges = append(out[i].Ranges, p.String())
		}
	}
	return out
}

func openingsFromPB(os []*pb.Opening) ([]manager.Opening, error) {
	out := make([]manager.Opening, len(os))
	for i, o := range os {
		a, err := parseAddrPort("opening", o.GetAddress())
		if err != nil {
			return nil, err
		}
		if o.GetDevicePort() > 65535 {
			return nil, fmt.Errorf("%w: opening: port out of range", errMessage)
		}
		out[i] = manager.Opening{
			EntryID: manager.EntryID(o.GetEntryId()), Address: a, Expires: timeOf(o.GetExpires()),
			OperatorID: manager.OperatorID(o.GetOperatorId()), IMSI: ident.IMSI(o.GetImsi()), SIMID: o.GetSimId(), DevicePort: uint16(o.GetDevicePort()),
			TLS: o.GetTls(), CredentialID: manager.CredentialID(o.GetCredentialId()), Many: o.GetMany(),
			Trace: o.GetTraceparent(),
		}
		for _, text := range o.GetRanges() {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return nil, fmt.Errorf("%w: opening: range: %w", errMessage, err)
			}
			out[i].Ranges = append(out[i].Ranges, p)
		}
	}
	return out, nil
}

func commandToPB(c manager.Command) *pb.Command {
	m := &pb.Command{Id: c.ID}
	switch c.Kind {
	case manager.CommandSnapshot:
		m.Kind = &pb.Command_Snapshot{Snapshot: &pb.Snapshot{Openings: openingsToPB(c.Openings)}}
	case manager.CommandOpen:
		m.Kind = &pb.Command_Open{Open: &pb.Open{Openings: openingsToPB(c.Openings)}}
	case manager.CommandClose:
		m.Kind = &pb.Command_Close{Close: &pb.Close{EntryId: string(c.EntryID), Reason: pb.CloseReason(c.Reason)}}
	case manager.CommandCredential:
		m.Kind = &pb.Command_CredentialChanged{CredentialChanged: &pb.CredentialChanged{CredentialId: string(c.CredentialID)}}
	case manager.CommandPing:
		m.Kind = &pb.Command_Ping{Ping: pingToPB(c.Ping)}
	case manager.CommandDrain:
		m.Kind = &pb.Command_Drain{Drain: &pb.Drain{}}
	case manager.CommandCut:
		m.Kind = &pb.Command_Cut{Cut: &pb.Cut{Imsi: string(c.IMSI), Device: c.Device.String()}}
	case manager.CommandReview:
		m.Kind = &pb.Command_Review{Review: &pb.Review{}}
	}
	return m
}

func commandFromPB(session string, m *pb.Command) (manager.Command, error) {
	c := manager.Command{Session: session, ID: m.GetId()}
	var err error
	switch k := m.GetKind().(type) {
	case *pb.Command_Snapshot:
		c.Kind = manager.CommandSnapshot
		c.Openings, err = openingsFromPB(k.Snapshot.GetOpenings())
	case *pb.Command_Open:
		c.Kind = manager.CommandOpen
		c.Openings, err = openingsFromPB(k.Open.GetOpenings())
	case *pb.Command_Close:
		c.Kind, c.EntryID, c.Reason = manager.CommandClose, manager.EntryID(k.Close.GetEntryId()), manager.CloseReason(k.Close.GetReason())
	case *pb.Command_CredentialChanged:
		c.Kind, c.CredentialID = manager.CommandCredential, manager.CredentialID(k.CredentialChanged.GetCredentialId())
	case *pb.Command_Ping:
		c.Kind = manager.CommandPing
		c.Ping, err = pingFromPB(k.Ping)
	case *pb.Command_Drain:
		c.Kind = manager.CommandDrain
	case *pb.Command_Cut:
		c.Kind, c.IMSI = manager.CommandCut, ident.IMSI(k.Cut.GetImsi())
		if c.Device, err = netip.ParseAddr(k.Cut.GetDevice()); err != nil {
			err = fmt.Errorf("%w: cut: %w", errMessage, err)
		}
	case *pb.Command_Review:
		c.Kind = manager.CommandReview
	default:
		err = fmt.Errorf("%w: unknown command", errMessage)
	}
	return c, err
}

func ackToPB(a manager.Acknowledgement) *pb.Acknowledgement {
	m := &pb.Acknowledgement{Id: a.ID}
	if p := a.Ping; p != nil {
		m.Ping = &pb.PingResult{Sent: uint32(max(p.Sent, 0)), Received: uint32(max(p.Received, 0)), RttNs: uint64(max(p.RTT, 0))}
	}
	for _, f := range a.Failures {
		m.Failures = append(m.Failures, &pb.OpenFailure{
			EntryId: string(f.EntryID), PortInUse: errors.Is(f.Err, manager.ErrPortInUse), Detail: fmt.Sprintf("%.*s", maxDetail, f.Err),
		})
	}
	return m
}

func ackFromPB(session string, m *pb.Acknowledgement) manager.Acknowledgement {
	a := manager.Acknowledgement{Session: session, ID: m.GetId()}
	if p := m.GetPing(); p != nil {
		a.Ping = &manager.PingResult{Sent: int(p.GetSent()), Received: int(p.GetReceived()), RTT: time.Duration(min(p.GetRttNs(), uint64(time.Hour)))}
	}
	for _, f := range m.GetFailures() {
		err := errors.New(f.GetDetail())
		if f.GetPortInUse() {
			err = fmt.Errorf("%w: %s", manager.ErrPortInUse, f.GetDetail())
		}
		a.Failures = append(a.Failures, manager.OpenFailure{EntryID: manager.EntryID(f.GetEntryId()), Err: err})
	}
	return a
}

// rpcCodes maps kinds of error to RPC codes.
var rpcCodes = map[manager.Kind]connect.Code{
	manager.KindInvalid:         connect.CodeInvalidArgument,
	manager.KindUnauthenticated: connect.CodeUnauthenticated,
	manager.KindForbidden:       connect.CodePermissionDenied,
	manager.KindNotFound:        connect.CodeNotFound,
	manager.KindTooLarge:        connect.CodeResourceExhausted,
	manager.KindConflict:        connect.CodeFailedPrecondition,
	manager.KindFailed:          connect.CodeAborted,
	manager.KindOffline:         connect.CodeFailedPrecondition,
	manager.KindUnavailable:     connect.CodeUnavailable,
	manager.KindInternal:        connect.CodeInternal,
}

// toRPC returns err for the wire: code and message arguments, not its causes.
func toRPC(err error) *connect.Error {
	if errors.Is(err, errMessage) {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	e := manager.AsError(err)
	code, ok := rpcCodes[e.Kind()]
	if !ok {
		code = connect.CodeUnknown
	}
	out := connect.NewError(code, errors.New(e.Message(manager.English)))
	if d, err := connect.NewErrorDetail(failureToPB(e)); err == nil {
		out.AddDetail(d)
	}
	return out
}

// fromRPC returns the manager's error, or CodeManagerAway for anything that the
// manager did not say.
func fromRPC(err error) error {
	if e, ok := errors.AsType[*manager.Error](err); ok {
		return e
	}
	if ce, ok := errors.AsType[*connect.Error](err); ok {
		for _, d := range ce.Details() {
			v, derr := d.Value()
			if f, ok := v.(*pb.Failure); derr == nil && ok {
				return failureFromPB(f)
			}
		}
	}
	return &manager.Error{Code: manager.CodeManagerAway, Err: err}
}

func failureToPB(e *manager.Error) *pb.Failure {
	f := &pb.Failure{Code: string(e.Code)}
	for _, a := range e.Args {
		f.Args = append(f.Args, fmt.Sprint(a))
	}
	return f
}

func failureFromPB(f *pb.Failure) *manager.Error {
	e := &manager.Error{Code: manager.Code(f.GetCode())}
	for _, a := range f.GetArgs() {
		e.Args = append(e.Args, a)
	}
	return e
}
