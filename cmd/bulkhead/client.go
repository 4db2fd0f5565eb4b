package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/api/bulkhead/v1/bulkheadv1connect"
)

const (
	largestAnswer = 64 << 20         // bytes of one answer: a thousand alerts with long arguments are a few
	patience      = 60 * time.Second // a mode change answers when every node has it in force
)

// client speaks the API of one server.
type client struct {
	target
	workloads bulkheadv1connect.WorkloadServiceClient
	alerts    bulkheadv1connect.AlertServiceClient
	nodes     bulkheadv1connect.NodeServiceClient
	people    bulkheadv1connect.AuthServiceClient
	images    bulkheadv1connect.ImageServiceClient
	flows     bulkheadv1connect.FlowServiceClient
	drills    bulkheadv1connect.DrillServiceClient
	policies  bulkheadv1connect.PolicyServiceClient
	segments  bulkheadv1connect.SegmentServiceClient
	web       bulkheadv1connect.WebServiceClient
	baseline  bulkheadv1connect.BaselineServiceClient
}

// target is where the server is and how it is spoken to.
type target struct {
	address string
	token   string
	pinned  [][]byte // certificates of which it must show one; none: any that the system trusts
}

// connect finds the server: the one that was named, or the one of this host.
func (a *app) connect() (*client, error) {
	t, err := a.target()
	if err != nil {
		return nil, err
	}
	return dial(t), nil
}

// target never hands the token of this host's server to a server that was named.
func (a *app) target() (target, error) {
	if a.server == "" {
		return localTarget(a.run)
	}
	t := target{address: strings.TrimRight(a.server, "/"), token: or(a.token, a.env("BULKHEAD_TOKEN"))}
	if u, err := url.Parse(t.address); err != nil || u.Scheme != "https" || u.Host == "" {
		return target{}, usagef("--server %q is not of the form https://HOST:PORT", a.server)
	}
	if t.token == "" {
		return target{}, usagef("--server needs an access token: set BULKHEAD_TOKEN, or give --token")
	}
	if a.cert == "" {
		return t, nil
	}
	var err error
	t.pinned, err = readCertificates(a.cert)
	return t, err
}

func dial(t target) *client {
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: trusting(t.pinned), ForceAttemptHTTP2: true}}
	o := []connect.ClientOption{
		connect.WithInterceptors(&bearer{t}),
		connect.WithReadMaxBytes(largestAnswer),
	}
	return &client{
		target:    t,
		workloads: bulkheadv1connect.NewWorkloadServiceClient(h, t.address, o...),
		alerts:    bulkheadv1connect.NewAlertServiceClient(h, t.address, o...),
		nodes:     bulkheadv1connect.NewNodeServiceClient(h, t.address, o...),
		people:    bulkheadv1connect.NewAuthServiceClient(h, t.address, o...),
		images:    bulkheadv1connect.NewImageServiceClient(h, t.address, o...),
		flows:     bulkheadv1connect.NewFlowServiceClient(h, t.address, o...),
		drills:    bulkheadv1connect.NewDrillServiceClient(h, t.address, o...),
		policies:  bulkheadv1connect.NewPolicyServiceClient(h, t.address, o...),
		segments:  bulkheadv1connect.NewSegmentServiceClient(h, t.address, o...),
		web:       bulkheadv1connect.NewWebServiceClient(h, t.address, o...),
		baseline:  bulkheadv1connect.NewBaselineServiceClient(h, t.address, o...),
	}
}

// trusting pins the server's certificate: it must show one of those that were given, whatever its names,
// dates and issuer. The host's own is in a file that only root can write, so this is stricter than any chain.
func trusting(pinned [][]byte) *tls.Config {
	if len(pinned) == 0 {
		return &tls.Config{MinVersion: tls.VersionTLS13}
	}
	verify := func(s tls.ConnectionState) error {
		for _, der := range pinned {
			if bytes.Equal(der, s.PeerCertificates[0].Raw) {
				return nil
			}
		}
		return errWrongCertificate
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection compares the certificate itself
		VerifyConnection:   verify,
	}
}

var errWrongCertificate = errors.New("the server shows another certificate than the pinned one")

// readCertificates takes those of a PEM file.
func readCertificates(file string) ([][]byte, error) {
	rest, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the server's certificate: %w", err)
	}
	var all [][]byte
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			all = append(all, block.Bytes)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("reading the server's certificate: %s holds none in PEM form", file)
	}
	return all, nil
}

// bearer puts the token on every call and says in words why a call failed.
type bearer struct{ target }

func (b *bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		request.Header().Set("Authorization", "Bearer "+b.token)
		if _, limited := ctx.Deadline(); !limited {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, patience)
			defer cancel()
		}
		response, err := next(ctx, request)
		if err != nil {
			return nil, b.explain(err)
		}
		return response, nil
	}
}

func (b *bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set("Authorization", "Bearer "+b.token)
		return conn
	}
}

func (b *bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// explain makes a person's sentence of a failed call: what is wrong, and what to do next.
func (t target) explain(err error) error {
	var call *connect.Error
	switch {
	case errors.Is(err, errWrongCertificate):
		return fmt.Errorf("%w (%s): if it was renewed, fetch the new one; if not, somebody is in between", errWrongCertificate, t.address)
	case !errors.As(err, &call):
		return err
	}
	switch call.Code() {
	case connect.CodeUnavailable:
		return &awayError{t.address, call.Unwrap()}
	case connect.CodeUnauthenticated:
		return fmt.Errorf("the server at %s does not know this token: %s; ask for a new one, or run this as root on its host", t.address, call.Message())
	case connect.CodePermissionDenied:
		return fmt.Errorf("not allowed: %s", call.Message())
	case connect.CodeFailedPrecondition:
		return policyError{errors.New(call.Message())}
	case connect.CodeInvalidArgument:
		return usageError{errors.New(call.Message())}
	case connect.CodeDeadlineExceeded:
		return fmt.Errorf("the server at %s did not answer in time: see `bulkhead status`", t.address)
	}
	return errors.New(call.Message())
}

// awayError says that nobody answers at the server's address.
type awayError struct {
	address string
	cause   error
}

func (e *awayError) Error() string {
	return fmt.Sprintf("the server at %s does not answer (%s): is it running? `bulkhead up` starts it", e.address, shortest(e.cause))
}

func (e *awayError) Unwrap() error { return e.cause }

// shortest leaves out what the address says already.
func shortest(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var system *os.SyscallError
	if errors.As(err, &system) {
		err = system.Err
	}
	return err.Error()
}

func request[T any](message *T) *connect.Request[T] { return connect.NewRequest(message) }

func (c *client) listWorkloads(ctx context.Context) ([]*pb.Workload, error) {
	answer, err := c.workloads.ListWorkloads(ctx, request(&pb.ListWorkloadsRequest{}))
	if err != nil {
		return nil, err
	}
	return answer.Msg.Workloads, nil
}

// findWorkload takes the whole name, or its end after a slash where that is unambiguous: "shop" for "docker/shop".
func (c *client) findWorkload(ctx context.Context, name string) (*pb.Workload, error) {
	all, err := c.listWorkloads(ctx)
	if err != nil {
		return nil, err
	}
	var found []*pb.Workload
	for _, w := range all {
		if w.Name == name {
			return w, nil
		}
		if strings.HasSuffix(w.Name, "/"+name) {
			found = append(found, w)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("no workload is named %q: `bulkhead workloads` lists them", name)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%q may be %s or %s: give the whole name", name, found[0].Name, found[1].Name)
}
