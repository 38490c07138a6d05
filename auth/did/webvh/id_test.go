package webvh

import (
	"errors"
	"net"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

const anySCID = "QmUbTyW8QGNWxWJonYpeMs8vToktBYxzhk6cgJV9JYzfwo"

func TestURLs(t *testing.T) {
	for place, want := range map[string]string{
		// The examples of the specification.
		"example.com":                      "https://example.com/.well-known/did.jsonl",
		"issuer.example.com":               "https://issuer.example.com/.well-known/did.jsonl",
		"example.com:dids:issuer":          "https://example.com/dids/issuer/did.jsonl",
		"example.com%3A3000:dids:issuer":   "https://example.com:3000/dids/issuer/did.jsonl",
		"jp納豆.例.jp:用户":                     "https://xn--jp-cd2fp15c.xn--fsq.jp/%E7%94%A8%E6%88%B7/did.jsonl",
		"example.com%3a3000":               "https://example.com:3000/.well-known/did.jsonl",
		"EXAMPLE.com:Dids":                 "https://example.com/Dids/did.jsonl",
		"%e4%be%8b.jp":                     "https://xn--fsq.jp/.well-known/did.jsonl",
		"xn--fsq.jp":                       "https://xn--fsq.jp/.well-known/did.jsonl",
		"example.com:a%20b:c%c3%a9~":       "https://example.com/a%20b/c%C3%A9~/did.jsonl",
		"example.com:100%25":               "https://example.com/100%25/did.jsonl",
		"1.2.3.4.example":                  "https://1.2.3.4.example/.well-known/did.jsonl",
		"example.com%3A65535":              "https://example.com:65535/.well-known/did.jsonl",
		anySCID[2:8] + ".example.com:..a:": "",
	} {
		id, err := ParseID(prefix + anySCID + ":" + place)
		if want == "" {
			if err == nil {
				t.Errorf("%s: accepted", place)
			}
			continue
		}
		if err != nil || id.LogURL() != want {
			t.Errorf("%s: got %q, %v, want %q", place, id.LogURL(), err, want)
		}
	}
	id, err := ParseID(prefix + anySCID + ":example.com%3A3000:dids")
	if err != nil || id.WitnessURL() != "https://example.com:3000/dids/did-witness.json" || id.BaseURL() != "https://example.com:3000/dids/" {
		t.Errorf("%v %s %s", err, id.WitnessURL(), id.BaseURL())
	}
}

func TestIDRefuses(t *testing.T) {
	for _, text := range []string{
		"", "did:webvh:", "did:web:example.com", "DID:webvh:" + anySCID + ":example.com", "did:WEBVH:" + anySCID + ":example.com",
		prefix + anySCID, prefix + anySCID + ":", prefix + ":example.com",
		prefix + "example.com", prefix + placeholder + ":example.com",
		prefix + "Qm00000000000000000000000000000000000000000000:example.com",
		prefix + anySCID[:45] + ":example.com", prefix + anySCID + "1:example.com",
		prefix + "5drfpoNXTRJ5jprNNXUu1NVvRDfxGCzRYaCmYPGD1n9Yrb:example.com", // no SHA-256
	} {
		refused(t, text)
	}
	for _, place := range []string{
		"localhost", "localhost%3A8080", "example", "example.com.", ".example.com", "example..com", "-a.example", "a-.example",
		"exa_mple.com", "example.com%3A", "example.com%3A0", "example.com%3A8", "example.com%3A08080", "example.com%3A65536",
		"example.com%3A80%3A80", "example.com%3A+80", "example.com%3A8 0", "user%40example.com", "user@example.com",
		"127.0.0.1", "127.0.0.1#x", "127.0.0.1?x", "127.0.0.1/x", "127.0.0.1%3A8080", "127.0.0.1%3a8080", "127.1", "0x7f.1", "a.0x7f", "1.2.3.0x",
		"127.0.0.1.", "%31%32%37.0.0.1", "127%2E0%2E0%2E1", "１２７.０.０.１", "127。0。0。1", "2130706433", "999.999.999.999",
		"[::1]", "%5B::1%5D", "%5B%3A%3A1%5D", "::1", "example.com%2Fx", "example.com%252e", "example%2Ecom", "example.com%00", "ex%61mple.com", "example.com%ff",
		"example.com:", "example.com::x", "example.com:x:", "example.com:.", "example.com:..", "example.com:..:admin",
		"example.com:%2E%2E:admin", "example.com:%2e%2e:admin", "example.com:%2e.", "example.com:a%2Fb", "example.com:a%2fb", "example.com:a%5Cb", "example.com:a\\b",
		"example.com:%252e%252e", "example.com:a%252Fb", "example.com:%25252e%25252e", "example.com:a%00", "example.com:a%0a", "example.com:%20a", "example.com:a b", "example.com:a%", "example.com:a%2", "example.com:a%zz",
		"example.com:a%ff", "example.com:<a>", "example.com:a\"", "example.com:a\x00", "example.com:\xff", "example.com/a", "example.com?versionId=1", "example.com#a",
	} {
		refused(t, prefix+anySCID+":"+place)
	}
}

func refused(t *testing.T, text string) {
	t.Helper()
	if id, err := ParseID(text); !errors.Is(err, did.ErrInvalid) || did.NameOf(err) != did.NameInvalidDID {
		t.Errorf("%q: got %q, %v", text, id.LogURL(), err)
	}
}

func FuzzParseID(f *testing.F) {
	f.Add(prefix + anySCID + ":example.com%3A3000:a:b")
	f.Add(prefix + anySCID + ":jp納豆.例.jp:用户")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseID(text)
		if err != nil {
			return
		}
		checkURL(t, id)
	})
}

// FuzzParseURL wants a DID URL that is accepted to be of a DID that is, and its query to
// choose something, or nothing where there is none.
func FuzzParseURL(f *testing.F) {
	f.Add(prefix + anySCID + ":example.com/a/b?versionId=1-x&versionNumber=2#key")
	f.Add(prefix + anySCID + ":example.com?versionTime=2024-01-01T00:00:00+00:00")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseURL(text)
		if err != nil {
			if name := did.NameOf(err); name == did.NameInternal || name == "" {
				t.Fatalf("%q: an error without a name: %v", text, err)
			}
			return
		}
		checkURL(t, u.ID)
		if again, err := ParseID(u.ID.String()); err != nil || again.text != u.ID.text || !strings.HasPrefix(text, u.ID.text) {
			t.Fatalf("%q is of %q: %v", text, u.ID, err)
		}
		if rest := text[len(u.ID.text):]; !strings.Contains(rest, "?") && u.Query != (Query{}) {
			t.Fatalf("%q asks for %+v", text, u.Query)
		}
	})
}

// checkURL wants the URL of an accepted DID to mean the same to a URL parser.
func checkURL(t *testing.T, id ID) {
	t.Helper()
	u, err := url.Parse(id.LogURL())
	if err != nil || u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		u.Hostname() != id.host || u.Port() != id.port || net.ParseIP(u.Hostname()) != nil || path.Clean(u.Path) != u.Path {
		t.Fatalf("%q became %q: %v", id.text, id.LogURL(), err)
	}
}
