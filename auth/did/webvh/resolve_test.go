package webvh

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	x, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestQueries(t *testing.T) {
	a, b := testSigner(1), testSigner(2)
	good := newForger(t).add(genesis(a, "ttl", 60.0), nil, a).add(object{}, nil, a).add(object{"updateKeys": keys(b)}, nil, a)
	bad := newForger(t).add(genesis(a, "ttl", 60.0), nil, a).add(object{}, nil, a).add(object{}, nil, b).add(object{}, nil, a)
	gone := newForger(t).add(genesis(a), nil, a).add(object{"deactivated": true}, nil, a)
	for name, c := range map[string]struct {
		f    *forger
		q    Query
		want int // version, or
		err  string
	}{
		"newest":                   {good, Query{}, 3, ""},
		"id":                       {good, Query{VersionID: good.version(2)}, 2, ""},
		"number":                   {good, Query{VersionNumber: 1}, 1, ""},
		"at its time":              {good, Query{VersionTime: at(t, "2024-01-01T02:00:00Z")}, 2, ""},
		"a second before":          {good, Query{VersionTime: at(t, "2024-01-01T01:59:59Z")}, 1, ""},
		"between":                  {good, Query{VersionTime: at(t, "2024-01-01T02:30:00Z")}, 2, ""},
		"in another zone":          {good, Query{VersionTime: at(t, "2024-01-01T04:30:00+02:00")}, 2, ""},
		"much later":               {good, Query{VersionTime: at(t, "2030-01-01T00:00:00Z")}, 3, ""},
		"before the first":         {good, Query{VersionTime: at(t, "2024-01-01T00:59:59Z")}, 0, did.NameNotFound},
		"unknown id":               {good, Query{VersionID: "2-" + anySCID}, 0, did.NameNotFound},
		"no id":                    {good, Query{VersionID: "2"}, 0, did.NameNotFound},
		"unknown number":           {good, Query{VersionNumber: 4}, 0, did.NameNotFound},
		"negative number":          {good, Query{VersionNumber: -1}, 0, did.NameInvalidOptions},
		"two that agree":           {good, Query{VersionNumber: 1, VersionID: good.version(1)}, 1, ""},
		"two that do not":          {good, Query{VersionNumber: 1, VersionID: good.version(2)}, 0, did.NameNotFound},
		"all three":                {good, Query{VersionNumber: 2, VersionID: good.version(2), VersionTime: at(t, "2024-01-01T02:30:00Z")}, 2, ""},
		"number, another time":     {good, Query{VersionNumber: 2, VersionTime: at(t, "2024-01-01T03:30:00Z")}, 0, did.NameNotFound},
		"bad newest":               {bad, Query{}, 0, did.NameInvalidDID},
		"bad, good id":             {bad, Query{VersionID: bad.version(2)}, 2, ""},
		"bad, good number":         {bad, Query{VersionNumber: 2}, 2, ""},
		"bad, good time":           {bad, Query{VersionTime: at(t, "2024-01-01T02:59:59Z")}, 2, ""},
		"bad, early time":          {bad, Query{VersionTime: at(t, "2024-01-01T01:59:59Z")}, 1, ""},
		"bad, its id":              {bad, Query{VersionID: bad.version(3)}, 0, did.NameInvalidDID},
		"bad, after its id":        {bad, Query{VersionID: bad.version(4)}, 0, did.NameInvalidDID},
		"bad, its number":          {bad, Query{VersionNumber: 3}, 0, did.NameInvalidDID},
		"bad, its time":            {bad, Query{VersionTime: at(t, "2024-01-01T03:00:00Z")}, 0, did.NameInvalidDID},
		"bad, unknown number":      {bad, Query{VersionNumber: 5}, 0, did.NameNotFound},
		"deactivated, before":      {gone, Query{VersionNumber: 1}, 1, ""},
		"deactivated, by its name": {gone, Query{VersionNumber: 2}, 2, ""},
	} {
		r, err := ResolveLog(context.Background(), c.f.id(), c.f.log(), nil, c.q)
		if c.err != "" {
			if did.NameOf(err) != c.err || r.Result.Error != c.err || r.Document != nil || r.Metadata != nil {
				t.Errorf("%s: got %v, want %s", name, err, c.err)
			}
			continue
		}
		if err != nil || r.Metadata.VersionNumber != c.want || r.Metadata.VersionID != c.f.version(c.want) || r.Document == nil {
			t.Errorf("%s: got %+v, %v, want %d", name, r.Metadata, err, c.want)
		}
	}
	for name, q := range map[string]Query{"newest": {}, "time": {VersionTime: at(t, "2025-01-01T00:00:00Z")}} {
		r, err := ResolveLog(context.Background(), gone.id(), gone.log(), nil, q)
		if err != nil || r.Document != nil || !r.Metadata.Deactivated || r.Metadata.VersionNumber != 2 {
			t.Errorf("deactivated, %s: %+v, %v", name, r, err)
		}
	}
}

func TestResult(t *testing.T) {
	a, w := testSigner(1), testSigner(11)
	f := newForger(t).add(genesis(a, "ttl", 60.0, "portable", true, "watchers", []any{"https://w.example"}, "witness", witnesses(1, w)),
		setState("service", []any{object{"id": "#files", "type": "relativeRef", "serviceEndpoint": "https://cdn.example/x"}}), a)
	r, err := ResolveLog(context.Background(), f.id(), f.log(), witnessFile(t, approval{f.version(1), []signer{w}}), Query{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"didDocument":{"@context":["https://www.w3.org/ns/did/v1"],"id":"` + f.id() + `","service":[` +
		`{"id":"#files","serviceEndpoint":"https://cdn.example/x","type":"relativeRef"},` +
		`{"@context":"https://identity.foundation/linked-vp/contexts/v1","id":"#whois","type":"LinkedVerifiablePresentation","serviceEndpoint":"https://example.com/whois.vp"}]},` +
		`"didDocumentMetadata":{"versionId":"` + f.version(1) + `","versionNumber":1,"versionTime":"2024-01-01T01:00:00Z","created":"2024-01-01T01:00:00Z","updated":"2024-01-01T01:00:00Z",` +
		`"scid":"` + f.scid + `","portable":true,"deactivated":false,"ttl":"60","witness":{"threshold":"1","witnesses":[{"id":"` + w.id() + `"}]},"watchers":["https://w.example"]},` +
		`"didResolutionMetadata":{"contentType":"application/did+ld+json"}}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	for path, want := range map[string]string{
		"/whois": "https://example.com/whois.vp", "/a/b.json": "https://cdn.example/x/a/b.json", "/whois/": "https://cdn.example/x/whois/",
		"": "", "/../x": "", "/a%2fb": "", "/a//b": "",
	} {
		if got, err := r.Locate(path); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", path, got, err, want)
		}
	}

	r, err = ResolveLog(context.Background(), "did:webvh:x", nil, nil, Query{})
	if err == nil {
		t.Fatal("no DID was resolved")
	}
	if text, err = json.Marshal(r); err != nil || !strings.HasPrefix(string(text),
		`{"didDocument":null,"didDocumentMetadata":{},"didResolutionMetadata":{"error":"invalidDid","problemDetails":{"type":"https://www.w3.org/ns/did#INVALID_DID",`) {
		t.Errorf("%v: %s", err, text)
	}
}

// The DID is looked at before the log, and must be the log's.
func TestOtherDID(t *testing.T) {
	a := testSigner(1)
	f := newForger(t).add(genesis(a), nil, a)
	other := newForger(t).add(genesis(a), setState("alsoKnownAs", []any{}), a)
	for _, id := range []string{other.id(), prefix + f.scid + ":example.org", prefix + f.scid + ":example.com:x", prefix + f.scid + ":EXAMPLE.com"} {
		if _, err := ResolveLog(context.Background(), id, f.log(), nil, Query{}); did.NameOf(err) != did.NameInvalidDID || !strings.Contains(err.Error(), "not that of") {
			t.Errorf("%s: %v", id, err)
		}
	}
	for _, id := range []string{f.id() + "#key", f.id() + "?versionId=1", f.id() + "/x", f.scid, strings.ToUpper(f.id())} {
		if _, err := ResolveLog(context.Background(), id, bytes.Repeat([]byte("x"), 9), nil, Query{}); err == nil || strings.Contains(err.Error(), "entry") {
			t.Errorf("%s: %v", id, err)
		}
	}
	// One that the log was of before it moved is its own too.
	m := newForger(t).add(genesis(a, "portable", true), nil, a).add(object{}, func(body object) {
		state := body["state"].(object)
		state["alsoKnownAs"], state["id"] = []any{state["id"]}, strings.Replace(state["id"].(string), "example.com", "example.org", 1)
	}, a)
	for _, id := range []string{m.id(), prefix + m.scid + ":example.org"} {
		r, err := ResolveLog(context.Background(), id, m.log(), nil, Query{})
		if err != nil || r.Entry.ID.String() != prefix+m.scid+":example.org" {
			t.Errorf("%s: %v", id, err)
		}
	}
}

func TestParseURL(t *testing.T) {
	id := prefix + anySCID + ":example.com"
	u, err := ParseURL(id + "/a/b?versionNumber=3#key-1")
	if err != nil || u.ID.String() != id || u.Path != "/a/b" || u.Query.VersionNumber != 3 || u.Fragment != "key-1" {
		t.Errorf("%+v, %v", u, err)
	}
	for _, text := range []string{"2024-01-01T00:00:00Z", "2024-01-01T00:00:00+00:00", "2024-01-01T00%3A00%3A00%2B00%3A00"} {
		if u, err = ParseURL(id + "?versionTime=" + text); err != nil || !u.Query.VersionTime.Equal(at(t, "2024-01-01T00:00:00Z")) {
			t.Errorf("%s: %+v, %v", text, u, err)
		}
	}
	if u, err = ParseURL(id + "?versionNumber=1&versionId=1-x"); err != nil || u.Query.VersionNumber != 1 || u.Query.VersionID != "1-x" {
		t.Errorf("%+v, %v", u, err)
	}
	for text, name := range map[string]string{
		prefix + anySCID + ":127.0.0.1?versionId=1-x": did.NameInvalidDID, id + "?x=1": did.NameInvalidDIDURL, id + "?versionId=": did.NameInvalidDIDURL,
		id + "?versionNumber=1&versionNumber=2": did.NameInvalidDIDURL, id + "?versionNumber=-1": did.NameInvalidOptions, id + "?versionTime=now": did.NameInvalidOptions,
		id + "/..": did.NameInvalidDIDURL, id + "/%2e%2e/x": did.NameInvalidDIDURL,
	} {
		if _, err := ParseURL(text); did.NameOf(err) != name || !errors.Is(err, did.ErrInvalid) {
			t.Errorf("%s: got %v, want %s", text, err, name)
		}
	}
	if _, err := ParseURL(id + "?versionNumber=0"); did.NameOf(err) != did.NameNotFound || !errors.Is(err, did.ErrNotFound) {
		t.Errorf("version 0: %v", err)
	}
}
