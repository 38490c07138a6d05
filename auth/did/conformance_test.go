package did_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/didtest"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

const scid = "QmUbTyW8QGNWxWJonYpeMs8vToktBYxzhk6cgJV9JYzfwo"

func newPeer(t *testing.T) *did.PeerMethod {
	t.Helper()
	m, err := did.NewPeer()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// newWeb is did:web with one DID on a server of its own.
func newWeb(t *testing.T) (m *did.WebMethod, known string) {
	t.Helper()
	const id = "did:web:example.com"
	key, err := did.Multikey(did.Ed25519, didtest.NewSigner(1).Public())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/.well-known/did.json" {
			http.NotFound(w, req)
			return
		}
		fmt.Fprintf(w, `{"@context":["https://www.w3.org/ns/did/v1"],"id":%[1]q,"verificationMethod":[{"id":"%[1]s#k","type":"Ed25519VerificationKey2020","controller":%[1]q,`+
			`"publicKeyMultibase":%[2]q}],"authentication":["%[1]s#k"]}`, id, key)
	}))
	t.Cleanup(srv.Close)
	tr := srv.Client().Transport.(*http.Transport).Clone()
	tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, srv.Listener.Addr().String())
	}
	t.Cleanup(tr.CloseIdleConnections)
	return did.NewWeb(did.WebConfig{Transport: tr}), id
}

// Every method passes the same suite.
func TestConformance(t *testing.T) {
	t.Run("key", func(t *testing.T) {
		didtest.Suite(t, did.NewKey(), didtest.Options{OneKey: true, Malformed: []string{"did:key:u6Mk", "did:key:x"}})
	})
	t.Run("peer", func(t *testing.T) {
		didtest.Suite(t, newPeer(t), didtest.Options{Unknown: "did:peer:1z" + scid, Malformed: []string{
			"did:peer:0z", "did:peer:0x", "did:peer:2", "did:peer:2.", "did:peer:2.Xz6Mk", "did:peer:2.V", "did:peer:2.Vz0", "did:peer:2.S", "did:peer:2.SW10", "did:peer:2.S!",
			"did:peer:4zQm:zx", "did:peer:5z", "did:peer:9"}})
	})
	t.Run("web", func(t *testing.T) {
		m, id := newWeb(t)
		didtest.Suite(t, m, didtest.Options{Known: id, Unknown: id + ":nobody", Malformed: []string{"did:web:127.0.0.1", "did:web:example.com:.."}})
	})
	t.Run("webvh", func(t *testing.T) {
		m := webvh.New(webvh.Config{Verifier: webvh.Verifier{Recovery: true}, Location: "example.com"})
		didtest.Suite(t, m, didtest.Options{Unknown: "did:webvh:" + scid + ":example.com",
			Malformed: []string{"did:webvh:" + scid, "did:webvh:" + scid + ":127.0.0.1", "did:webvh:" + scid + ":example.com:%2e%2e"}})
	})
	t.Run("mem", func(t *testing.T) {
		didtest.Suite(t, didtest.NewMemory(), didtest.Options{Unknown: "did:mem:0"})
	})
}

// A new method is one more argument: neither the other methods nor who uses them know it.
func TestAddMethod(t *testing.T) {
	ctx := context.Background()
	web, webID := newWeb(t)
	mem := didtest.NewMemory()
	r := did.NewResolver(
		did.NewKey(),
		newPeer(t),
		web,
		webvh.New(webvh.Config{}),
		mem, // the one line
	)
	doc, err := mem.Create(ctx, did.Change{}, didtest.NewSigner(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{doc.ID, webID, "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"} {
		if got, err := r.Resolve(ctx, id); err != nil || got.ID != id {
			t.Errorf("%s: %v", id, err)
		}
	}
	if _, err := did.NewResolver(did.NewKey()).Resolve(ctx, doc.ID); !errors.Is(err, did.ErrUnsupportedMethod) || did.NameOf(err) != did.NameMethodNotSupported {
		t.Errorf("without the line: %v", err)
	}
}

func TestNames(t *testing.T) {
	for err, want := range map[error]string{
		did.ErrInvalid: did.NameInvalidDID, did.ErrNotFound: did.NameNotFound, did.ErrNotSupported: did.NameNotSupported,
		did.ErrUnavailable: did.NameInternal, errors.New("x"): did.NameInternal,
	} {
		if got := did.NameOf(fmt.Errorf("wrapped: %w", err)); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
	all := did.CanCreate | did.CanResolve | did.CanUpdate | did.CanRecover | did.CanDeactivate
	if got := all.String(); got != "create, resolve, update, recover, deactivate" {
		t.Error(got)
	}
}

func TestResult(t *testing.T) {
	ctx := context.Background()
	mem := didtest.NewMemory()
	doc, err := mem.Create(ctx, did.Change{}, didtest.NewSigner(1))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"didDocument":{"@context":"https://www.w3.org/ns/did/v1","id":"did:mem:1"},"didDocumentMetadata":{"versionId":"1"},"didResolutionMetadata":{"contentType":"application/did+ld+json"}}`
	if got, err := did.ResultOf(doc); err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	if err := mem.Deactivate(ctx, doc.ID, didtest.NewSigner(1)); err != nil {
		t.Fatal(err)
	}
	if doc, err = mem.Resolve(ctx, doc.ID); err != nil {
		t.Fatal(err)
	}
	want = `{"didDocument":null,"didDocumentMetadata":{"versionId":"2","deactivated":true},"didResolutionMetadata":{}}`
	if got, err := did.ResultOf(doc); err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	_, err = did.NewResolver(mem).Resolve(ctx, "did:nobody:1")
	want = `{"didDocument":null,"didDocumentMetadata":{},"didResolutionMetadata":{"error":"methodNotSupported","problemDetails":{` +
		`"type":"https://www.w3.org/ns/did#METHOD_NOT_SUPPORTED","title":"The DID method is not supported.","detail":"did:nobody is not among mem: unsupported DID method"}}}`
	if got, err := did.MarshalResult(nil, nil, did.Failure(err)); err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
}
