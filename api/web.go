package api

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"google.golang.org/protobuf/proto"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
)

// Limits of what is said about one request: its client chose most of it.
const (
	MaxRequest    = 12 << 10 // bytes of a request that are kept
	MaxWebReasons = 16
)

// ToWebException writes an exception as a message.
func ToWebException(e bulkhead.WebException) *pb.WebException {
	return &pb.WebException{Id: Text(e.ID), Rule: Text(e.Rule), Path: Text(e.Path), Name: Text(e.Name), By: Text(e.By), At: toTime(e.At)}
}

// FromWebException reads one.
func FromWebException(m *pb.WebException) bulkhead.WebException {
	return bulkhead.WebException{ID: Text(m.GetId()), Rule: Text(m.GetRule()), Path: Text(m.GetPath()), Name: Text(m.GetName()), By: Text(m.GetBy()), At: fromTime(m.GetAt())}
}

// ToWebPatch writes a virtual patch as a message.
func ToWebPatch(p bulkhead.WebPatch) *pb.WebPatch {
	return &pb.WebPatch{Id: Text(p.ID), Method: Text(p.Method), Path: Text(p.Path), Name: Text(p.Name), Pattern: Text(p.Pattern), By: Text(p.By), At: toTime(p.At)}
}

// FromWebPatch reads one.
func FromWebPatch(m *pb.WebPatch) bulkhead.WebPatch {
	return bulkhead.WebPatch{
		ID: Text(m.GetId()), Method: Text(m.GetMethod()), Path: Text(m.GetPath()), Name: Text(m.GetName()), Pattern: Text(m.GetPattern()),
		By: Text(m.GetBy()), At: fromTime(m.GetAt()),
	}
}

func toWeb(w *bulkhead.WebRequest) *pb.WebRequest {
	if w == nil {
		return nil
	}
	m := &pb.WebRequest{
		Id: Text(w.ID), Client: Text(w.Client), Method: Text(w.Method), Host: Text(w.Host), Path: Text(w.Path), Endpoint: Text(w.Endpoint),
		Place: Text(string(w.Place)), Mode: Text(string(w.Mode)), Verdict: Text(w.Verdict), Score: toInt32(w.Score),
		Request: w.Request[:min(len(w.Request), MaxRequest)], Cut: w.Cut || len(w.Request) > MaxRequest,
	}
	for _, r := range w.Reasons[:min(len(w.Reasons), MaxWebReasons)] {
		m.Reasons = append(m.Reasons, &pb.WebReason{Rule: Text(r.Rule), Class: Text(r.Class), Score: toInt32(r.Score), Place: Text(r.Place), Name: Text(r.Name), Message: Text(r.Message)})
	}
	return m
}

// fromWeb gives reasons that are never nil.
func fromWeb(m *pb.WebRequest) *bulkhead.WebRequest {
	if m == nil {
		return nil
	}
	w := &bulkhead.WebRequest{
		ID: Text(m.GetId()), Client: Text(m.GetClient()), Method: Text(m.GetMethod()), Host: Text(m.GetHost()), Path: Text(m.GetPath()), Endpoint: Text(m.GetEndpoint()),
		Place: bulkhead.WebPlace(Text(m.GetPlace())), Mode: bulkhead.WebMode(Text(m.GetMode())), Verdict: Text(m.GetVerdict()), Score: int(m.GetScore()),
		Reasons: []bulkhead.WebReason{}, Request: m.GetRequest()[:min(len(m.GetRequest()), MaxRequest)], Cut: m.GetCut() || len(m.GetRequest()) > MaxRequest,
	}
	for _, r := range m.GetReasons()[:min(len(m.GetReasons()), MaxWebReasons)] {
		w.Reasons = append(w.Reasons, bulkhead.WebReason{Rule: Text(r.GetRule()), Class: Text(r.GetClass()), Score: int(r.GetScore()), Place: Text(r.GetPlace()), Name: Text(r.GetName()), Message: Text(r.GetMessage())})
	}
	return w
}

func toWebCause(c *bulkhead.WebCause) *pb.WebCause {
	if c == nil {
		return nil
	}
	m := &pb.WebCause{
		Id: Text(c.ID), Method: Text(c.Method), Path: Text(c.Path), Endpoint: Text(c.Endpoint), Place: Text(c.Place), Parameter: Text(c.Parameter),
		Client: Text(c.Client), Sure: Text(string(c.Sure)), Why: Text(c.Why), Others: toInt32(c.Others),
	}
	if c.Patch != nil {
		m.Patch = ToWebPatch(*c.Patch)
	}
	return m
}

func fromWebCause(m *pb.WebCause) *bulkhead.WebCause {
	if m == nil {
		return nil
	}
	c := &bulkhead.WebCause{
		ID: Text(m.GetId()), Method: Text(m.GetMethod()), Path: Text(m.GetPath()), Endpoint: Text(m.GetEndpoint()), Place: Text(m.GetPlace()), Parameter: Text(m.GetParameter()),
		Client: Text(m.GetClient()), Sure: bulkhead.Sureness(Text(m.GetSure())), Why: Text(m.GetWhy()), Others: int(m.GetOthers()),
	}
	if m.GetPatch() != nil {
		p := FromWebPatch(m.GetPatch())
		c.Patch = &p
	}
	return c
}

// WebDigest names settings of the layer-7 firewall: a node that has others is sent them again.
func WebDigest(settings []*pb.WebSetting) string {
	if len(settings) == 0 {
		return ""
	}
	sum := sha256.New()
	for _, s := range settings {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(s)
		if err != nil {
			return "unreadable"
		}
		_ = binary.Write(sum, binary.BigEndian, uint32(len(b))) // a hash takes all
		sum.Write(b)
	}
	return hex.EncodeToString(sum.Sum(nil))
}
