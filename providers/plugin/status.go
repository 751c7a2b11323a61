package plugin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/plugin/pb"
)

// maxMessage caps an error's text on the wire: it ends in rows and logs.
const maxMessage = 4096

// known holds every code of the contract with the gRPC code that tools which
// do not know the contract should see.
var known = map[providers.Code]codes.Code{
	providers.CodeInvalid:         codes.InvalidArgument,
	providers.CodeUnauthenticated: codes.Unauthenticated,
	providers.CodeDenied:          codes.PermissionDenied,
	providers.CodeNotFound:        codes.NotFound,
	providers.CodeConflict:        codes.AlreadyExists,
	providers.CodeAborted:         codes.Aborted,
	providers.CodeQuota:           codes.ResourceExhausted,
	providers.CodeCapacity:        codes.ResourceExhausted,
	providers.CodeThrottled:       codes.ResourceExhausted,
	providers.CodeUnavailable:     codes.Unavailable,
	providers.CodeOutcomeUnknown:  codes.Unknown,
	providers.CodeUnimplemented:   codes.Unimplemented,
	providers.CodeInternal:        codes.Internal,
}

// toStatus makes err travel: its code, scope and delay go as a detail. That the
// caller gave up has none: what it means is the caller's to say.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	var e *providers.Error
	if !errors.As(err, &e) {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return status.FromContextError(err).Err()
		}
		e = providers.Errorf(providers.CodeInternal, "%s", err)
	}
	text := short(e.Message)
	detail := &pb.Error{
		Code:       string(e.Code),
		Message:    text,
		RetryAfter: durationpb.New(e.RetryAfter),
		Scope:      string(e.Scope),
		RequestId:  short(e.RequestID),
		Hint:       short(e.Hint),
	}
	code, ok := known[e.Code]
	if !ok {
		code = codes.Internal
	}
	s, detailErr := status.New(code, text).WithDetails(detail)
	if detailErr != nil {
		return status.Error(codes.Internal, text)
	}
	return s.Err()
}

// short cuts a text between characters: the wire takes UTF-8 only.
func short(text string) string {
	if len(text) > maxMessage {
		text = text[:maxMessage]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// fromStatus gives the host the error that the plugin returned. What has no
// detail did not come from the provider but from the transport: the plugin
// died, or the caller gave up. lost says what that means for the call.
func fromStatus(err error, lost providers.Code) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%w: %w", providers.Errorf(lost, "calling the plugin"), err)
	}
	for _, d := range s.Details() {
		if detail, ok := d.(*pb.Error); ok {
			return fromDetail(detail)
		}
	}
	switch s.Code() {
	case codes.Canceled:
		return fmt.Errorf("%w: %w", providers.Errorf(lost, "calling the plugin"), context.Canceled)
	case codes.DeadlineExceeded:
		return fmt.Errorf("%w: %w", providers.Errorf(lost, "calling the plugin"), context.DeadlineExceeded)
	case codes.Unimplemented:
		return providers.Errorf(providers.CodeUnimplemented, "calling the plugin: %s", s.Message())
	case codes.Unavailable:
		return providers.Errorf(lost, "calling the plugin: %s", s.Message())
	default:
		return providers.Errorf(providers.CodeInternal, "calling the plugin: %s", s.Message())
	}
}

func fromDetail(d *pb.Error) *providers.Error {
	e := &providers.Error{
		Code:       providers.Code(d.GetCode()),
		Message:    d.GetMessage(),
		RetryAfter: max(0, d.GetRetryAfter().AsDuration()),
		Scope:      providers.Scope(d.GetScope()),
		RequestID:  d.GetRequestId(),
		Hint:       d.GetHint(),
	}
	switch e.Scope {
	case "", providers.ScopeMachine, providers.ScopeRegion, providers.ScopeAccount:
	default:
		e.Message = fmt.Sprintf("plugin answered the unknown scope %q: %s", e.Scope, e.Message)
		e.Scope = providers.ScopeMachine
	}
	if _, ok := known[e.Code]; !ok {
		e.Message = fmt.Sprintf("plugin answered the unknown code %q: %s", e.Code, e.Message)
		e.Code = providers.CodeInternal
	}
	return e
}
