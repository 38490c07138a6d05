package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// Resolution is the answer to who resolves a DID; its JSON form is the result of the DID
// resolution specification.
type Resolution = webvh.Resolution

// ResolveOptions choose what is resolved. Log and Witness are the files of a did:webvh
// that are verified without any network; nil asks the places that the DID names.
type ResolveOptions struct {
	Home                                  Home // its own DID is resolved from the log there
	Config                                Config
	Log, Witness                          []byte
	VersionID, VersionTime, VersionNumber string
}

// query is the version that is asked for, and the DID without its query: that of a
// did:webvh may choose the version, as in a DID URL.
func (o *ResolveOptions) query(id string) (string, webvh.Query, error) {
	q, err := webvh.ParseQuery(o.VersionID, o.VersionTime, o.VersionNumber)
	if err != nil || !strings.HasPrefix(id, "did:webvh:") || !strings.Contains(id, "?") {
		return id, q, err
	}
	u, err := webvh.ParseURL(id)
	if err != nil {
		return id, q, err
	}
	why := ""
	switch {
	case u.Path != "" || u.Fragment != "":
		why = "it names a part of the DID or of its document; here a DID is resolved, with a query for a version at most"
	case q != (webvh.Query{}):
		why = "its query and the options both choose a version"
	default:
		return u.ID.String(), u.Query, nil
	}
	return id, q, &did.Error{Name: did.NameInvalidDIDURL, Reason: fmt.Sprintf("%.300q: %s", id, why), Err: did.ErrInvalid}
}

// resolver knows all methods. The newest logs of a did:webvh that were seen here stay known.
func resolver(h Home) (*did.Resolver, error) {
	peer, err := did.NewPeer()
	if err != nil {
		return nil, err
	}
	return did.NewResolver(did.NewKey(), did.NewWeb(did.WebConfig{Transport: foreign(h)}), peer, othersLogs(h, webvh.NewHTTP(webvh.HTTPConfig{Transport: foreign(h)}))), nil
}

// othersLogs is did:webvh for other people's DIDs: it remembers the newest log of each, and
// asks the sources for a newer one.
func othersLogs(h Home, sources ...webvh.Source) *webvh.Method {
	return webvh.New(webvh.Config{Verifier: webvh.Rules(), Store: remembered(h), Sources: sources})
}

// ResolveDID resolves a DID of any method that the program knows. The resolution is never
// nil; of a failure it tells the name.
func ResolveDID(ctx context.Context, id string, o ResolveOptions) (*Resolution, error) {
	fail := func(err error) (*Resolution, error) {
		err = fmt.Errorf("resolving %s: %w", id, err)
		return webvh.Failed(err), err
	}
	plain, q, err := o.query(id)
	if err != nil {
		return fail(err)
	}
	id = plain
	if o.Log != nil {
		r, err := webvh.ResolveLog(ctx, id, o.Log, o.Witness, q)
		return named(id, r, err)
	}
	if strings.HasPrefix(id, "did:webvh:") {
		sources, done := logSources(o.Home, o.Config)
		defer done()
		var m *webvh.Method
		if auth.OwnLog(o.Home.Keystore, id) == nil {
			m = othersLogs(o.Home, sources...)
		} else {
			// Other devices may have changed the document, and committed since.
			if err := refreshFromCommits(ctx, o.Home, o.Config, slog.New(slog.DiscardHandler)); err != nil {
				return fail(err)
			}
			if !published(o.Home, id) {
				sources = nil
			}
			m = auth.LogMethod(o.Home.Keystore, sources...)
		}
		r, err := m.ResolveVersion(ctx, id, q)
		return named(id, r, err)
	}
	if q != (webvh.Query{}) {
		return fail(fmt.Errorf("this method has no versions to choose from: %w", did.ErrNotSupported))
	}
	all, err := resolver(o.Home)
	if err != nil {
		return fail(err)
	}
	doc, err := all.Resolve(ctx, id)
	if err != nil {
		return fail(err)
	}
	var top struct {
		Context any `json:"@context"`
	}
	if err := json.Unmarshal(doc.Raw(), &top); err != nil {
		return fail(err)
	}
	return &Resolution{Document: doc.Raw(), Result: &did.ResolutionMetadata{ContentType: did.ContentType(top.Context != nil)}}, nil
}

func named(id string, r *Resolution, err error) (*Resolution, error) {
	if err == nil {
		return r, nil
	}
	if r == nil {
		r = webvh.Failed(err)
	}
	return r, fmt.Errorf("resolving %s: %w", id, err)
}

// DIDErrorName is the name by which other programs know an error of a resolution.
func DIDErrorName(err error) string { return did.NameOf(err) }
