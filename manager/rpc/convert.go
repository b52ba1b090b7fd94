package rpc

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

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

func optionalAddrPort(s string) netip.AddrPort {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}
	}
	return a
}

func formatAddrPort(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
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
		FirstPort: uint32(r.Ports.First), LastPort: uint32(r.Ports.Last), Region: r.Region, Live: uint32(max(r.Live, 0)),
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
		Region: h.GetRegion(), Live: int(h.GetLive()),
	}, nil
}

func openingsToPB(os []manager.Opening) []*pb.Opening {
	out := make([]*pb.Opening, len(os))
	for i, o := range os {
		out[i] = &pb.Opening{EntryId: string(o.EntryID), Address: o.Address.String(), Expires: timestamppb.New(o.Expires)}
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
		out[i] = manager.Opening{EntryID: manager.EntryID(o.GetEntryId()), Address: a, Expires: timeOf(o.GetExpires())}
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
	default:
		err = fmt.Errorf("%w: unknown command", errMessage)
	}
	return c, err
}

func ackToPB(a manager.Acknowledgement) *pb.Acknowledgement {
	m := &pb.Acknowledgement{Id: a.ID}
	for _, f := range a.Failures {
		m.Failures = append(m.Failures, &pb.OpenFailure{
			EntryId: string(f.EntryID), PortInUse: errors.Is(f.Err, manager.ErrPortInUse), Detail: fmt.Sprintf("%.*s", maxDetail, f.Err),
		})
	}
	return m
}

func ackFromPB(session string, m *pb.Acknowledgement) manager.Acknowledgement {
	a := manager.Acknowledgement{Session: session, ID: m.GetId()}
	for _, f := range m.GetFailures() {
		err := errors.New(f.GetDetail())
		if f.GetPortInUse() {
			err = fmt.Errorf("%w: %s", manager.ErrPortInUse, f.GetDetail())
		}
		a.Failures = append(a.Failures, manager.OpenFailure{EntryID: manager.EntryID(f.GetEntryId()), Err: err})
	}
	return a
}

func eventToPB(e manager.ConnectionEvent) *pb.ConnectionEvent {
	return &pb.ConnectionEvent{
		Kind: pb.EventKind(e.Kind), EntryId: string(e.EntryID), ConnectionId: e.ConnectionID, Client: formatAddrPort(e.Client),
		Cause: e.Cause, Up: e.Up, Down: e.Down, At: timestamppb.New(e.At), Live: uint32(max(e.Live, 0)),
	}
}

func eventFromPB(m *pb.ConnectionEvent) manager.ConnectionEvent {
	return manager.ConnectionEvent{
		Kind: manager.EventKind(m.GetKind()), EntryID: manager.EntryID(m.GetEntryId()), ConnectionID: m.GetConnectionId(),
		Client: optionalAddrPort(m.GetClient()), Cause: m.GetCause(), Up: m.GetUp(), Down: m.GetDown(), At: timeOf(m.GetAt()), Live: int(m.GetLive()),
	}
}

func routeToPB(r manager.Route) *pb.ResolveResponse {
	m := &pb.ResolveResponse{
		EntryId: string(r.EntryID), ConnectionId: r.ConnectionID, Expires: timestamppb.New(r.Expires), Device: r.Device.String(),
		InnerId: string(r.InnerID), Inner: r.Inner.String(), Ticket: r.Ticket,
	}
	for _, p := range r.Ranges {
		m.Ranges = append(m.Ranges, p.String())
	}
	return m
}

func routeFromPB(m *pb.ResolveResponse) (manager.Route, error) {
	device, err1 := parseAddrPort("device", m.GetDevice())
	inner, err2 := parseAddrPort("inner", m.GetInner())
	if err := errors.Join(err1, err2); err != nil {
		return manager.Route{}, err
	}
	r := manager.Route{
		EntryID: manager.EntryID(m.GetEntryId()), ConnectionID: m.GetConnectionId(), Expires: timeOf(m.GetExpires()), Device: device,
		InnerID: manager.RelayID(m.GetInnerId()), Inner: inner, Ticket: m.GetTicket(),
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

// rpcCodes maps kinds of error to RPC codes.
var rpcCodes = map[manager.Kind]connect.Code{
	manager.KindInvalid:         connect.CodeInvalidArgument,
	manager.KindUnauthenticated: connect.CodeUnauthenticated,
	manager.KindNotFound:        connect.CodeNotFound,
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
	f := &pb.Failure{Code: string(e.Code)}
	for _, a := range e.Args {
		f.Args = append(f.Args, fmt.Sprint(a))
	}
	if d, err := connect.NewErrorDetail(f); err == nil {
		out.AddDetail(d)
	}
	return out
}

// fromRPC returns the manager's error, or CodeManagerAway for anything that the
// manager did not say.
func fromRPC(err error) error {
	if ce, ok := errors.AsType[*connect.Error](err); ok {
		for _, d := range ce.Details() {
			v, derr := d.Value()
			if f, ok := v.(*pb.Failure); derr == nil && ok {
				e := &manager.Error{Code: manager.Code(f.GetCode())}
				for _, a := range f.GetArgs() {
					e.Args = append(e.Args, a)
				}
				return e
			}
		}
	}
	return &manager.Error{Code: manager.CodeManagerAway, Err: err}
}
