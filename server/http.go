package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"

	pbconnect "bulkhead/api/bulkhead/v1/bulkheadv1connect"
	"bulkhead/auth"
)

const (
	maxBody    = 1 << 20          // no request of the API is near it
	unaryTime  = 45 * time.Second // longer than a command to a node may take
	cookieName = "__Host-bulkhead"
)

// http serves the API, the probes and the console.
func (s *Server) http(console http.Handler, cert tls.Certificate) *http.Server {
	mux := http.NewServeMux()
	options := []connect.HandlerOption{
		connect.WithInterceptors(gate{s}),
		connect.WithReadMaxBytes(maxBody),
		connect.WithRecover(s.recovered),
	}
	mux.Handle(pbconnect.NewAuthServiceHandler(authService{s}, options...))
	mux.Handle(pbconnect.NewWorkloadServiceHandler(workloadService{s}, options...))
	mux.Handle(pbconnect.NewAlertServiceHandler(alertService{s}, options...))
	mux.Handle(pbconnect.NewDrillServiceHandler(drillService{s}, options...))
	mux.Handle(pbconnect.NewNodeServiceHandler(nodeService{s}, options...))
	mux.Handle(pbconnect.NewFlowServiceHandler(flowService{s}, options...))
	mux.Handle(pbconnect.NewSegmentServiceHandler(segmentService{s}, options...))
	mux.Handle(pbconnect.NewImageServiceHandler(imageService{s}, options...))
	mux.Handle(pbconnect.NewPolicyServiceHandler(policyService{s}, options...))
	mux.Handle(pbconnect.NewWebServiceHandler(webService{s}, options...))
	mux.Handle(pbconnect.NewBaselineServiceHandler(baselineService{s}, options...))
	s.hooks(mux)
	s.harbor(mux)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("/", console)
	return &http.Server{
		Handler:           headers(timed(mux)),
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// headers tell a browser to run nothing but the console's own files and to show it in no frame.
func headers(next http.Handler) http.Handler {
	fixed := map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
			"connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; " +
			"require-trusted-types-for 'script'; trusted-types svelte-trusted-html", // Svelte makes elements of its own templates, of nothing else
		"Strict-Transport-Security":    "max-age=31536000",
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Permissions-Policy":           "camera=(), microphone=(), geolocation=()",
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range fixed {
			w.Header().Set(name, value)
		}
		if strings.HasPrefix(r.URL.Path, "/bulkhead.") {
			w.Header().Set("Cache-Control", "no-store")
		}
		next.ServeHTTP(w, r)
	})
}

// timed bounds every request but the stream of alerts, which lasts as long as somebody watches.
func timed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		control := http.NewResponseController(w)
		end := time.Now().Add(unaryTime)
		if r.URL.Path == pbconnect.AlertServiceWatchAlertsProcedure {
			end = time.Time{} // also undoes the deadline of an earlier request on this connection
		}
		_ = errors.Join(control.SetReadDeadline(end), control.SetWriteDeadline(end)) // net/http supports both
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), hostKey{}, r.Host)))
	})
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if err := s.db.Ready(r.Context()); err != nil {
		s.log.Warn("not ready", "err", err)
		http.Error(w, "the database is away", http.StatusServiceUnavailable)
		return
	}
	if !s.bus.Connected() {
		http.Error(w, "the bus is away", http.StatusServiceUnavailable)
		return
	}
	w.Write([]byte("ok\n"))
}

// tokenOf takes the token of a program from its header, or of a browser from its cookie. A cookie is
// sent by the browser whoever made the page, so it counts only when the page is ours.
func tokenOf(h http.Header, host string) string {
	if token, ok := strings.CutPrefix(h.Get("Authorization"), "Bearer "); ok && token != "" {
		return token
	}
	cookie, err := (&http.Request{Header: h}).Cookie(cookieName)
	if err != nil || !sameOrigin(h, host) {
		return ""
	}
	return cookie.Value
}

func sameOrigin(h http.Header, host string) bool {
	if site := h.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		return false
	}
	origin, err := url.Parse(h.Get("Origin"))
	return err == nil && origin.Scheme == "https" && host != "" && strings.EqualFold(origin.Host, host)
}

func sessionCookie(token string, expires time.Time) *http.Cookie {
	return &http.Cookie{Name: cookieName, Value: token, Path: "/", Expires: expires, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

func from(peer connect.Peer) string {
	host, _, err := net.SplitHostPort(peer.Addr)
	if err != nil {
		return peer.Addr
	}
	return host
}

func noConsole() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write([]byte("Bulkhead is running. This build has no web console: build it with make build.\n"))
	})
}

// caller is who is calling, and from where.
type caller struct {
	auth.Identity
	from  string
	token string
}
