package did

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"
)

// webServer is a web server with TLS, and a transport that finds it under any name of its
// certificate: example.com and those below.
func webServer(t *testing.T, h http.HandlerFunc) *http.Transport {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	tr := srv.Client().Transport.(*http.Transport).Clone()
	tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, srv.Listener.Addr().String())
	}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func TestWebMethod(t *testing.T) {
	ctx := context.Background()
	const id = "did:web:example.com%3A8443"
	tr := webServer(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/.well-known/did.json":
			fmt.Fprintf(w, `{"id":%q,"verificationMethod":[{"id":"#k","type":"Multikey","controller":%q,"publicKeyMultibase":%q}],"assertionMethod":["#k"]}`,
				id, id, multikey(t, Ed25519, 4))
		case "/users/bob/did.json":
			fmt.Fprintf(w, `{"id":%q}`, id) // not bob's document
		case "/broken/did.json":
			fmt.Fprint(w, `<html>`)
		case "/down/did.json":
			w.WriteHeader(http.StatusBadGateway)
		case "/huge/did.json":
			w.Write(bytes.Repeat([]byte(" "), MaxDocument+1))
		case "/moved/did.json":
			http.Redirect(w, req, "/.well-known/did.json", http.StatusFound)
		case "/loop/did.json":
			http.Redirect(w, req, "/loop/did.json", http.StatusFound)
		case "/plain/did.json":
			http.Redirect(w, req, "http://example.com/.well-known/did.json", http.StatusFound)
		case "/address/did.json":
			http.Redirect(w, req, "https://127.0.0.1/.well-known/did.json", http.StatusFound)
		default:
			http.NotFound(w, req)
		}
	})
	m := NewWeb(WebConfig{Transport: tr})
	r := NewResolver(m)
	doc, err := r.Resolve(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.ResolveKey(ctx, AssertionMethod, id+"#k"); err != nil {
		t.Error(err)
	}
	if _, _, err := r.ResolveKey(ctx, Authentication, id+"#k"); !errors.Is(err, ErrRelationship) {
		t.Errorf("got %v", err)
	}
	if !strings.HasPrefix(doc.Version.ID, "sha256-") {
		t.Errorf("version %q", doc.Version.ID)
	}
	for path, want := range map[string]error{
		":users:bob": ErrInvalid, ":broken": ErrInvalid, ":none": ErrNotFound,
		":down": ErrUnavailable, ":huge": ErrInvalid, ":moved": ErrInvalid, ":loop": ErrInvalid,
		":plain": ErrInvalid, ":address": ErrInvalid, ":%2e%2e": ErrInvalid, ":%252e%252e": ErrInvalid, ":..": ErrInvalid, ":a%2Fb": ErrInvalid, ":": ErrInvalid, "::x": ErrInvalid,
	} {
		if _, err := r.Resolve(ctx, id+path); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", path, err, want)
		}
	}
	for _, bad := range []string{"did:web:a%2Fb", "did:web:u%40h", "did:web:h%3Fq", "did:web:h%23f", "did:web:%", "did:web:127.0.0.1", "did:web:127.0.0.1%3A8080",
		"did:web:127.1", "did:web:0x7f000001", "did:web:2130706433", "did:web:%5B%3A%3A1%5D", "did:web:1.2.3.4.", "did:web:a.0x1f", "did:web:127%2E0.0.1"} {
		if _, err := r.Resolve(ctx, bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v", bad, err)
		}
	}
	if _, err := m.Create(ctx, Change{}, nil); !errors.Is(err, ErrNotSupported) {
		t.Errorf("create: %v", err)
	}
}

func TestWebMethodDeadline(t *testing.T) {
	release := make(chan struct{})
	const id = "did:web:example.com"
	tr := webServer(t, func(_ http.ResponseWriter, req *http.Request) {
		select { // hangs until the client gives up
		case <-req.Context().Done():
		case <-release:
		}
	})
	t.Cleanup(func() { close(release) })
	m := NewWeb(WebConfig{Transport: tr, Deadline: 50 * time.Millisecond})
	if _, err := m.Resolve(context.Background(), id); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}

	closed := tr.Clone()
	closed.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }
	if _, err := NewWeb(WebConfig{Transport: closed}).Resolve(context.Background(), id); !errors.Is(err, ErrUnavailable) {
		t.Errorf("closed port: got %v", err)
	}
	if _, err := NewWeb(WebConfig{Transport: tr}).Resolve(context.Background(), "did:web:example.net"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("certificate of another domain: got %v", err)
	}
}
