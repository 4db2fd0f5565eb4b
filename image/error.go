package image

import (
	"errors"
	"fmt"
	"strings"
)

// SBOMError says that a target is a package list: it has no layers and no files.
type SBOMError struct{ Path string }

func (e *SBOMError) Error() string {
	return e.Path + " is a software bill of materials, not an image: it has packages and no files"
}

// NotFoundError says that no place that was asked could give the image.
type NotFoundError struct {
	Target string
	Tried  []error // what each place said
}

func (e *NotFoundError) Error() string {
	said := make([]string, 0, len(e.Tried))
	for _, err := range e.Tried {
		said = append(said, err.Error())
	}
	return fmt.Sprintf("no place has the image %q: %s", e.Target, strings.Join(said, "; "))
}

func (e *NotFoundError) Unwrap() []error { return e.Tried }

// MismatchError says that bytes are not those that were promised.
type MismatchError struct {
	What      string // "digest", "DiffID", "size"
	Want, Got string
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("the %s is %s and should be %s: the image was damaged or changed on its way", e.What, e.Got, e.Want)
}

// LimitError says that a layer is larger than what [Limits] allow.
type LimitError struct {
	What  string // "uncompressed bytes", "entries", "times its stored size"
	Limit int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("more than %d %s: this looks like an archive bomb; raise the limit if it is none", e.Limit, e.What)
}

// LayerError says which layer could not be read to its end. What was visited before it is as the layer says it, but
// unproved when Err is a [MismatchError].
type LayerError struct {
	DiffID, Digest string
	Err            error
}

func (e *LayerError) Error() string {
	name := e.DiffID
	if name == "" {
		name = e.Digest
	}
	if name == "" {
		return "read the files: " + e.Err.Error()
	}
	return "read layer " + name + ": " + e.Err.Error()
}

func (e *LayerError) Unwrap() error { return e.Err }

// errAbsent says that a place does not have what it was asked for; the next place may have it.
var errAbsent = errors.New("not there")
