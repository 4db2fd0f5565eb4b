package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/auth"
	"bulkhead/store"
)

type authService struct{ s *Server }

func (a authService) SignIn(ctx context.Context, r *connect.Request[pb.SignInRequest]) (*connect.Response[pb.SignInResponse], error) {
	if o := r.Header().Get("Origin"); o != "" && !sameOrigin(r.Header(), hostOf(ctx)) {
		return nil, connect.NewError(connect.CodePermissionDenied, errors.New("sign in from this server's own page"))
	}
	session, err := a.s.auth.SignIn(ctx, r.Msg.Name, r.Msg.Password, callerOf(ctx).from)
	if !errors.Is(err, auth.ErrSlow) { // a guesser must not push everything else out of the log
		a.s.audit(ctx, "sign in", short(r.Msg.Name), "", err)
	}
	if err != nil {
		return nil, failure(a.s, err)
	}
	if err := forgetWelcome(a.s.welcome...); err != nil {
		a.s.log.Warn("the first password's file was not removed", "err", err)
	}
	answer := connect.NewResponse(&pb.SignInResponse{Token: session.Token, Expires: timestamppb.New(session.Expires)})
	answer.Header().Add("Set-Cookie", sessionCookie(session.Token, session.Expires).String())
	return answer, nil
}

func (a authService) SignOut(ctx context.Context, _ *connect.Request[pb.SignOutRequest]) (*connect.Response[pb.SignOutResponse], error) {
	if c := callerOf(ctx); c.token != "" && c.Name != "" && c.Name != auth.Host {
		err := a.s.auth.SignOut(ctx, c.token)
		a.s.audit(ctx, "sign out", c.Name, "", err)
		if err != nil {
			return nil, failure(a.s, err)
		}
	}
	answer := connect.NewResponse(&pb.SignOutResponse{})
	answer.Header().Add("Set-Cookie", sessionCookie("", time.Unix(1, 0)).String())
	return answer, nil
}

func (a authService) WhoAmI(ctx context.Context, _ *connect.Request[pb.WhoAmIRequest]) (*connect.Response[pb.WhoAmIResponse], error) {
	c := callerOf(ctx)
	return connect.NewResponse(&pb.WhoAmIResponse{Name: c.Name, Roles: []string{string(c.Role)}}), nil
}

// gate lets nobody call a method without the role it needs, streams included.
type gate struct{ s *Server }

func (g gate) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, err := g.admit(ctx, r.Spec().Procedure, r.Header(), r.Peer())
		if err != nil {
			return nil, err
		}
		return next(ctx, r)
	}
}

func (g gate) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, c connect.StreamingHandlerConn) error {
		ctx, err := g.admit(ctx, c.Spec().Procedure, c.RequestHeader(), c.Peer())
		if err != nil {
			return err
		}
		return next(ctx, c)
	}
}

func (g gate) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (g gate) admit(ctx context.Context, procedure string, h http.Header, peer connect.Peer) (context.Context, error) {
	c := caller{from: from(peer), token: tokenOf(h, hostOf(ctx))}
	c.Role = auth.Anyone
	if c.token != "" {
		who, err := g.s.auth.Who(ctx, c.token)
		if err != nil && !errors.Is(err, auth.ErrRefused) {
			return ctx, failure(g.s, err)
		}
		if err == nil {
			c.Identity = who
		}
	}
	if err := auth.Allow(c.Identity, procedure); err != nil {
		return ctx, refusal(c, err)
	}
	return context.WithValue(ctx, callerKey{}, c), nil
}

func refusal(c caller, err error) error {
	if c.Name == "" {
		return connect.NewError(connect.CodeUnauthenticated, errors.New("sign in first"))
	}
	return connect.NewError(connect.CodePermissionDenied, err)
}

type callerKey struct{}

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

type hostKey struct{}

// hostOf is the host that the browser asked for.
func hostOf(ctx context.Context) string {
	host, _ := ctx.Value(hostKey{}).(string)
	return host
}

// failure gives an error the code that programs decide by. What is our own fault is logged in full
// and told in general: it may name files and queries.
func failure(s *Server, err error) error {
	switch {
	case errors.Is(err, auth.ErrRefused):
		return connect.NewError(connect.CodeUnauthenticated, auth.ErrRefused)
	case errors.Is(err, auth.ErrSlow):
		return connect.NewError(connect.CodeResourceExhausted, auth.ErrSlow)
	case errors.Is(err, store.ErrNotFound):
		return connect.NewError(connect.CodeNotFound, err)
	case errors.Is(err, store.ErrPage), errors.Is(err, store.ErrTrait):
		return connect.NewError(connect.CodeInvalidArgument, err)
	case errors.Is(err, store.ErrQueue):
		return connect.NewError(connect.CodeResourceExhausted, err)
	case errors.Is(err, store.ErrFull):
		s.log.Error("the disk is full", "err", err)
		return connect.NewError(connect.CodeResourceExhausted, errors.New("the control plane's disk is full: make room and try again"))
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, err)
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, err)
	}
	s.log.Error("a request failed", "err", err)
	return connect.NewError(connect.CodeInternal, errors.New("the control plane failed: its log says why"))
}

func (s *Server) recovered(_ context.Context, spec connect.Spec, _ http.Header, p any) error {
	s.log.Error("a request made the server panic", "method", spec.Procedure, "panic", fmt.Sprint(p))
	return connect.NewError(connect.CodeInternal, errors.New("the control plane failed: its log says why"))
}

// short keeps what a stranger sent from filling a log.
func short(s string) string {
	if len(s) > 200 {
		s = s[:200]
	}
	return fmt.Sprintf("%+q", s)
}
