package fleet_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster/fleet"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within waits for a condition, and says how long it took.
func within(t testing.TB, limit time.Duration, what string, ask func() error) time.Duration {
	t.Helper()
	begun := time.Now()
	for {
		err := ask()
		if err == nil {
			took := time.Since(begun)
			t.Logf("%s: after %.1f s", what, took.Seconds())
			return took
		}
		if time.Since(begun) > limit {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(50 * time.Millisecond) // between two looks
	}
}

var errNotYet = errors.New("not yet")

// api calls the REST API of a node with the fleet's password.
type api struct {
	info *fleet.Info
	http *http.Client
}

func newAPI(t testing.TB, info *fleet.Info) *api {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	if info.CAFile != "" {
		pem, err := os.ReadFile(info.CAFile)
		must(t, err)
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			t.Fatal("no certificate in ", info.CAFile)
		}
		tr.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &api{info: info, http: &http.Client{Transport: tr, Timeout: 30 * time.Second}}
}

func (a *api) call(method, url string, into any) error {
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return err
	}
	req.SetBasicAuth(a.info.Username, a.info.Password)
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, b)
	}
	return json.Unmarshal(b, into)
}

type pin struct {
	Allocations []string `json:"allocations"`
}

type pinStatus struct {
	Allocations []string `json:"allocations"`
	PeerMap     map[string]struct {
		Peername string `json:"peername"`
		Status   string `json:"status"`
		Error    string `json:"error"`
	} `json:"peer_map"`
}

// pin asks a node's API for n copies of a DAG. It is refused as long as the free space of
// that many peers is not known, which of one that has just come back it may not be.
func (a *api) pin(t testing.TB, n *fleet.Node, cid string, copies int) pin {
	t.Helper()
	var p pin
	within(t, 30*time.Second, "accepted", func() error {
		return a.call(http.MethodPost, fmt.Sprintf("%s/pins/%s?replication-min=%d&replication-max=%d&name=test",
			n.API(), cid, copies, copies), &p)
	})
	return p
}

// held are the peers that are allocated and say that they have all of a DAG.
func (a *api) held(n *fleet.Node, cid string) (held, allocated []string, err error) {
	var p pin
	var s pinStatus
	if err := a.call(http.MethodGet, n.API()+"/allocations/"+cid, &p); err != nil {
		return nil, nil, err
	}
	if err := a.call(http.MethodGet, n.API()+"/pins/"+cid, &s); err != nil {
		return nil, nil, err
	}
	for _, id := range p.Allocations {
		if s.PeerMap[id].Status == "pinned" {
			held = append(held, id)
		}
	}
	return held, p.Allocations, nil
}

func (a *api) waitHeld(t testing.TB, n *fleet.Node, cid string, copies int, limit time.Duration, what string) []string {
	t.Helper()
	var held []string
	within(t, limit, what, func() error {
		h, allocated, err := a.held(n, cid)
		if err != nil {
			return err
		}
		if len(h) < copies {
			var s pinStatus
			_ = a.call(http.MethodGet, n.API()+"/pins/"+cid, &s) // for the message
			return fmt.Errorf("%w: held by %d of %v: %v", errNotYet, len(h), allocated, s.PeerMap)
		}
		held = h
		return nil
	})
	return held
}

// rpc calls a node's Kubo.
func rpc(ctx context.Context, n *fleet.Node, path, contentType string, body io.Reader) ([]byte, error) {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", n.RPC())
	}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/api/v0/"+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, b)
	}
	return b, err
}

// add puts a DAG of several blocks into a node's Kubo, without a pin.
func add(t testing.TB, n *fleet.Node) string {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	part, err := w.CreateFormFile("file", "f")
	must(t, err)
	_, err = io.CopyN(part, rand.Reader, 600<<10)
	must(t, err)
	must(t, w.Close())
	out, err := rpc(t.Context(), n, "add?pin=false&cid-version=1&chunker=size-65536", w.FormDataContentType(), &body)
	must(t, err)
	var added struct{ Hash string }
	must(t, json.Unmarshal(out, &added))
	return added.Hash
}

// hasPin asks a Kubo itself.
func hasPin(ctx context.Context, n *fleet.Node, cid string) bool {
	_, err := rpc(ctx, n, "pin/ls?type=recursive&arg="+cid, "", nil)
	return err == nil
}

func byPeer(t testing.TB, f *fleet.Fleet, id string) *fleet.Node {
	t.Helper()
	for _, n := range f.Nodes() {
		if n.Peer() == id {
			return n
		}
	}
	t.Fatal("no node has the peer ", id)
	return nil
}

func isUp(t testing.TB, f *fleet.Fleet, n *fleet.Node, sees int) error {
	t.Helper()
	for _, s := range f.Status(t.Context()).Nodes {
		if s.Name == n.Name() && s.State == fleet.StateUp && s.Sees == sees {
			return nil
		} else if s.Name == n.Name() {
			return fmt.Errorf("%w: %s, sees %d: %s", errNotYet, s.State, s.Sees, s.Problem)
		}
	}
	return errNotYet
}

// leftovers are the processes that run in a directory.
func leftovers(t testing.TB, dir string) []int {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	var left []int
	for _, p := range procs {
		cwd, err := os.Readlink(filepath.Join(p, "cwd"))
		if err != nil { // it has ended
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(p))
		must(t, err)
		if strings.HasPrefix(cwd, dir) && pid != os.Getpid() {
			left = append(left, pid)
		}
	}
	return left
}

func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
