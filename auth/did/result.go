package did

import (
	"encoding/json"
	"errors"
)

// ResolutionMetadata tells of a resolution.
type ResolutionMetadata struct {
	ContentType    string          `json:"contentType,omitempty"`
	Error          string          `json:"error,omitempty"`
	ProblemDetails *ProblemDetails `json:"problemDetails,omitempty"`
}

// ProblemDetails are those of RFC 9457.
type ProblemDetails struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
}

// MarshalResult writes the result of a resolution as the DID resolution specification has
// it. Document and metadata may be nil.
func MarshalResult(document json.RawMessage, metadata any, r *ResolutionMetadata) ([]byte, error) {
	if metadata == nil {
		metadata = struct{}{}
	}
	return json.Marshal(struct {
		Document json.RawMessage     `json:"didDocument"`
		Metadata any                 `json:"didDocumentMetadata"`
		Result   *ResolutionMetadata `json:"didResolutionMetadata"`
	}{document, metadata, r})
}

// ResultOf writes the result of a resolution by a method that tells no more than its
// document and the version.
func ResultOf(doc *Document) ([]byte, error) {
	m := struct {
		VersionID   string `json:"versionId,omitempty"`
		Deactivated bool   `json:"deactivated,omitempty"`
	}{doc.Version.ID, doc.Deactivated}
	r := &ResolutionMetadata{}
	if doc.Deactivated {
		return MarshalResult(nil, m, r)
	}
	top, err := object(doc.raw)
	if err != nil {
		return nil, err
	}
	r.ContentType = ContentType(top["@context"] != nil)
	return MarshalResult(doc.raw, m, r)
}

// ContentType is the media type of a document with or without a JSON-LD context.
func ContentType(context bool) string {
	if context {
		return "application/did+ld+json"
	}
	return "application/did+json"
}

// Failure is the metadata of a resolution that failed with an error.
func Failure(err error) *ResolutionMetadata {
	name := NameOf(err)
	p := &ProblemDetails{Type: "https://www.w3.org/ns/did#" + problemType(name), Title: title(name), Detail: err.Error()}
	var named *Error
	if errors.As(err, &named) {
		p.Detail = named.Reason
		if named.Kind != "" {
			p.Detail = named.Kind + ": " + named.Reason
		}
	}
	return &ResolutionMetadata{Error: name, ProblemDetails: p}
}

// problemType writes invalidDid as INVALID_DID.
func problemType(name string) string {
	var out []byte
	for _, c := range []byte(name) {
		if c >= 'A' && c <= 'Z' {
			out = append(out, '_', c)
		} else {
			out = append(out, c-'a'+'A')
		}
	}
	return string(out)
}

func title(name string) string {
	switch name {
	case NameInvalidDID:
		return "The DID is invalid."
	case NameInvalidDIDURL:
		return "The DID URL is invalid."
	case NameInvalidOptions:
		return "The options of the resolution are invalid."
	case NameNotFound:
		return "The DID, or this version of it, was not found."
	case NameMethodNotSupported:
		return "The DID method is not supported."
	}
	return "The DID could not be resolved."
}
