package ipfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/ipfs/boxo/files"
	"github.com/ipfs/boxo/path"
	"github.com/ipfs/go-cid"
	cmds "github.com/ipfs/go-ipfs-cmds"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/ipfs/kubo/client/rpc"
	"github.com/ipfs/kubo/client/rpc/auth"
	"github.com/ipfs/kubo/config"
	iface "github.com/ipfs/kubo/core/coreiface"
	"github.com/ipfs/kubo/core/coreiface/options"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/cluster-labs/ipfscloud/fs"
)

const (
	dialTimeout = 5 * time.Second
	// answerMax bounds what a node may answer to one request, in bytes.
	answerMax = 8 << 20
	// tries bounds how often a call is made when the node is away.
	tries     = 4
	firstWait = 50 * time.Millisecond // before the second try; it doubles from then on
	// parallel is how many requests of one operation are under way at once.
	parallel = 8
)

// client calls a node's RPC. Every call has a deadline on our side: one that the node
// keeps would let it answer success to what it has not done. Calls are made again when
// the node is away, so they must be such that twice is as good as once.
type client struct {
	api       *rpc.HttpApi
	transport *http.Transport
	timeout   time.Duration // of one try
}

func newClient(address, authorization string, timeout time.Duration) (*client, error) {
	network, target, base, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: 2 * parallel,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true,
	}
	if network == "unix" {
		t.Proxy = nil
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, target)
		}
	}
	var rt http.RoundTripper = &strictTransport{t}
	if authorization != "" {
		header := authorization
		if !strings.Contains(header, " ") {
			header = config.ConvertAuthSecret(authorization)
		}
		if header == "" {
			return nil, fmt.Errorf("the authorization is neither a token nor of the form basic:… or bearer:…: %w", fs.ErrInvalid)
		}
		rt = auth.NewAuthorizedRoundTripper(header, rt)
	}
	api, err := rpc.NewURLApiWithClient(base, &http.Client{Transport: rt})
	if err != nil {
		return nil, err
	}
	return &client{api: api, transport: t, timeout: timeout}, nil
}

// parseAddress reads where a node is: http://… or https://…, /unix/PATH, a path of a
// socket, or a multiaddr such as /ip4/127.0.0.1/tcp/5001.
func parseAddress(address string) (network, target, base string, err error) {
	bad := func(why string) error {
		return fmt.Errorf("the address of the IPFS node: %s: %w", why, fs.ErrInvalid)
	}
	if socket, ok := strings.CutPrefix(address, "/unix/"); ok {
		return "unix", filepath.Clean("/" + socket), "http://unix", nil
	}
	if strings.HasPrefix(address, "/") {
		if m, err := ma.NewMultiaddr(address); err == nil {
			if network, target, err = manet.DialArgs(m); err != nil {
				return "", "", "", bad(err.Error())
			}
			scheme := "http://"
			for _, p := range m.Protocols() {
				if p.Code == ma.P_HTTPS || p.Code == ma.P_TLS {
					scheme = "https://"
				}
			}
			return network, target, scheme + target, nil
		}
		return "unix", filepath.Clean(address), "http://unix", nil
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", "", "", bad("it cannot be read") // the error would show a password in it
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return "", "", "", bad("it begins with none of http://, https:// and /")
	case u.User != nil:
		return "", "", "", bad("it has a password in it; give that as the authorization")
	case u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return "", "", "", bad("it must be a host, and a port and path if need be")
	}
	below := strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/api/v0")
	return "tcp", u.Host, u.Scheme + "://" + u.Host + below, nil
}

var (
	errRefused = errors.New("the IPFS node refused the authorization")
	errAway    = errors.New("the IPFS node is away")
	errAnswer  = errors.New("not the answer of an IPFS node")
)

// strictTransport tells answers of a node from those of something in between, and bounds
// their length.
type strictTransport struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (t *strictTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := t.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	switch res.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		err = fmt.Errorf("%w (HTTP status %d)", errRefused, res.StatusCode)
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		err = fmt.Errorf("%w (HTTP status %d)", errAway, res.StatusCode)
	case http.StatusOK, http.StatusInternalServerError, http.StatusBadRequest:
	default:
		err = fmt.Errorf("%w (HTTP status %d)", errAnswer, res.StatusCode)
	}
	if err == nil && res.StatusCode != http.StatusOK && !strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
		if res.StatusCode == http.StatusInternalServerError {
			err = fmt.Errorf("%w (HTTP status %d)", errAway, res.StatusCode)
		} else {
			err = fmt.Errorf("%w (HTTP status %d)", errAnswer, res.StatusCode)
		}
	}
	if err != nil {
		return nil, errors.Join(err, res.Body.Close())
	}
	res.Body = &boundedBody{ReadCloser: res.Body, left: answerMax}
	return res, nil
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("longer than %d bytes: %w", answerMax, errAnswer)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}

// request is one call of the RPC.
type request struct {
	command string
	args    []string
	options map[string]any
	body    func() io.Reader // of a file to send, made anew for each try; or nil
	size    int64            // of the body in bytes; more bytes have more time
}

// slowest is the rate in bytes per second below which sending a file is given up.
const slowest = 128 << 10

// call makes a request, again while the node is away, and hands its answer to read.
func (c *client) call(ctx context.Context, q request, read func(io.Reader) error) error {
	return c.retry(ctx, q.command, q.size, func(ctx context.Context) error {
		b := c.api.Request(q.command, q.args...)
		for k, v := range q.options {
			b = b.Option(k, v)
		}
		if q.body != nil {
			dir := files.NewMapDirectory(map[string]files.Node{"file": files.NewReaderFile(q.body())})
			b = b.Body(files.NewMultiFileReader(dir, false, false))
		}
		res, err := b.Send(ctx)
		if err != nil {
			return err
		}
		if res.Error != nil {
			return res.Error
		}
		if read == nil {
			return res.Close() // reads to the end: an error may come late
		}
		if err := read(res.Output); err != nil {
			return errors.Join(err, res.Cancel())
		}
		return res.Close()
	})
}

// retry runs f, which sends size bytes, until it is done, the node is away for good, or
// ctx ends.
func (c *client) retry(ctx context.Context, command string, size int64, f func(context.Context) error) error {
	limit := c.timeout + time.Duration(size/slowest)*time.Second
	once := func() error {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return f(ctx)
	}
	wait := firstWait
	for try := 1; ; try++ {
		err := once()
		if err == nil || try == tries || !passing(err) || ctx.Err() != nil {
			return c.meaning(ctx, command, err)
		}
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return c.meaning(ctx, command, err)
		}
		wait *= 2
	}
}

// passing tells the errors after which it is worth to try again.
func passing(err error) bool {
	if errors.As(err, new(*cmds.Error)) || ipld.IsNotFound(err) ||
		errors.Is(err, errRefused) || errors.Is(err, errAnswer) {
		return false
	}
	for _, m := range meanings {
		if errors.Is(err, m) {
			return false
		}
	}
	return !errors.Is(err, context.Canceled)
}

// meaning wraps an error of a call. What the node itself says comes as text alone, with
// one code for all of it, so a full disk over there is told by what the system calls it.
func (c *client) meaning(ctx context.Context, command string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = errors.Join(ctx.Err(), err)
	}
	var said *cmds.Error
	if errors.As(err, &said) && strings.Contains(said.Message, "no space left on device") {
		return fmt.Errorf("%s: %w: %w", command, fs.ErrNoSpace, err)
	}
	return fmt.Errorf("%s: %w", command, meaning(err))
}

// json makes a request whose answer is one JSON value.
func (c *client) json(ctx context.Context, q request, answer any) error {
	return c.call(ctx, q, func(r io.Reader) error {
		if err := json.NewDecoder(r).Decode(answer); err != nil {
			return fmt.Errorf("%w: %w", errAnswer, err)
		}
		return nil
	})
}

// version asks a node for its version.
func (c *client) version(ctx context.Context) (string, error) {
	var v struct{ Version string }
	err := c.json(ctx, request{command: "version"}, &v)
	return v.Version, err
}

// noNetwork keeps a node from asking its network.
func noNetwork() map[string]any { return map[string]any{"offline": true} }

// block reads a block. A node that is not to ask its network is asked with offline.
func (c *client) block(ctx context.Context, k cid.Cid, offline bool) (data []byte, err error) {
	blocks, err := c.blockAPI(offline)
	if err != nil {
		return nil, err
	}
	err = c.retry(ctx, "block/get", 0, func(ctx context.Context) error {
		r, err := blocks.Get(ctx, path.FromCid(k))
		if err != nil {
			return err
		}
		data, err = io.ReadAll(r)
		return err
	})
	return data, err
}

// hasBlock reports whether a block lies in the node.
func (c *client) hasBlock(ctx context.Context, k cid.Cid) (bool, error) {
	blocks, err := c.blockAPI(true)
	if err != nil {
		return false, err
	}
	err = c.retry(ctx, "block/stat", 0, func(ctx context.Context) error {
		_, err := blocks.Stat(ctx, path.FromCid(k))
		return err
	})
	if errors.Is(err, fs.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (c *client) blockAPI(offline bool) (iface.BlockAPI, error) {
	api, err := c.api.WithOptions(options.Api.Offline(offline))
	if err != nil {
		return nil, err
	}
	return api.Block(), nil
}

func (c *client) close() { c.transport.CloseIdleConnections() }
