package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"bulkhead/kube"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The limits of an answer. The API server cuts warnings at 4 KiB in all; a message that is longer
// than a screen is read by nobody.
const (
	maxReview   = 10 << 20 // the API server takes objects of 3 MiB, and sends the old one too
	maxMessage  = 4 << 10
	maxWarning  = 256
	maxWarnings = 12
)

type answerer func(ctx context.Context, r kube.Request) (*admissionv1.AdmissionResponse, error)

// answer reads a review, asks, and writes the response. What cannot be answered is an error of the
// server: the webhook's failure policy then counts.
func (s *server) answer(w http.ResponseWriter, r *http.Request, watch *watch, ask answerer) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
	if err != nil {
		http.Error(w, "the review is too large or broken", http.StatusRequestEntityTooLarge)
		return
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &review); err != nil || review.Request == nil {
		http.Error(w, "no admission review", http.StatusBadRequest)
		return
	}
	request, err := toRequest(r.Context(), review.Request, watch)
	if err == nil {
		review.Response, err = ask(r.Context(), request)
	}
	if err != nil {
		s.Log.Error("admission review failed", "object", describe(review.Request), "error", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	review.Response.UID, review.Request = review.Request.UID, nil
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(review)
}

func toRequest(ctx context.Context, r *admissionv1.AdmissionRequest, watch *watch) (kube.Request, error) {
	labels, err := watch.namespaceLabels(ctx, r.Namespace)
	if err != nil {
		return kube.Request{}, fmt.Errorf("reading the namespace %s: %w", r.Namespace, err)
	}
	return kube.Request{
		Kind: r.Kind.Kind, Subresource: r.SubResource, Operation: string(r.Operation), Namespace: r.Namespace, NamespaceLabels: labels,
		User: r.UserInfo.Username, Groups: r.UserInfo.Groups, Object: r.Object.Raw, Old: r.OldObject.Raw,
	}, nil
}

func describe(r *admissionv1.AdmissionRequest) string {
	return fmt.Sprintf("%s/%s/%s", r.Kind.Kind, r.Namespace, r.Name)
}

func (s *server) validate(ctx context.Context, r kube.Request) (*admissionv1.AdmissionResponse, error) {
	v := s.engine.Review(ctx, r)
	response := &admissionv1.AdmissionResponse{Allowed: v.Allowed, Warnings: warnings(v.Warnings)}
	if audit := sentence(append(v.Audits, v.Reasons...)); audit != "" {
		response.AuditAnnotations = map[string]string{"verdict": audit}
	}
	if !v.Allowed {
		s.Log.Info("refused", "kind", r.Kind, "namespace", r.Namespace, "user", r.User, "reasons", sentence(v.Reasons))
		response.Result = &metav1.Status{Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: sentence(v.Reasons)}
	}
	return response, nil
}

func (s *server) mutate(ctx context.Context, r kube.Request) (*admissionv1.AdmissionResponse, error) {
	patch, err := s.engine.Patch(ctx, r)
	if err != nil {
		return nil, err
	}
	response := &admissionv1.AdmissionResponse{Allowed: true}
	if len(patch) == 0 {
		return response, nil
	}
	text, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("writing the patch: %w", err)
	}
	kind := admissionv1.PatchTypeJSONPatch
	response.Patch, response.PatchType = text, &kind
	return response, nil
}

func warnings(reasons []kube.Reason) []string {
	var out []string
	for i, r := range reasons {
		if i == maxWarnings {
			return append(out, fmt.Sprintf("and %d more warnings", len(reasons)-i))
		}
		out = append(out, cut("["+r.Rule+"] "+r.Message, maxWarning))
	}
	return out
}

func sentence(reasons []kube.Reason) string {
	parts := make([]string, 0, len(reasons))
	for _, r := range reasons {
		parts = append(parts, "["+r.Rule+"] "+r.Message)
	}
	return cut(strings.Join(parts, "; "), maxMessage)
}

func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	text = text[:most-len("…")]
	for !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return text + "…"
}
