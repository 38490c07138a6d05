package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
)

const (
	// fanoutTime is for calls for which the cluster asks other peers: it gives each of
	// them 15 seconds.
	fanoutTime = 18 * time.Second
	// probeTime is for asking whether an endpoint is alive at all.
	probeTime = 3 * time.Second
	// streamTimes is how many times what one value may take a stream may take in all, and
	// streamMost bounds that.
	streamTimes = 60
	streamMost  = 3 * time.Minute

	maxObject  = 4 << 20   // bytes of an answer that is one value
	maxValue   = 1 << 20   // of one value in a stream: a pin, or a peer, that names all peers
	maxStream  = 64 << 20  // of a stream, if nothing else is said
	maxList    = 512 << 20 // of the list of pins: a million of them
	maxMessage = 300
)

var (
	errTooLong = errors.New("longer than any answer should be")
	errTime    = errors.New("no answer in time")
	// errSlow says that the endpoint is alive, but what it has to ask others for took
	// too long: another endpoint would not be faster.
	errSlow = errors.New("peers of the cluster do not answer")
)

// request is one call. read decodes what it wants of the answer.
type request struct {
	method, path string
	query        string
	timeout      time.Duration // for one endpoint; 0 is the usual one
	fanout       bool          // the cluster asks other peers
	stream       bool          // many values follow each other
	most         int64         // bytes of a stream; 0 is maxStream
	begin        func()        // forgets what another endpoint's answer began with
	read         func(*json.Decoder) error
}

// call tries endpoints until one gives an answer that can be used.
func (c *Client) call(ctx context.Context, r *request) error {
	var errs []error
	for _, i := range c.choice.order() {
		r.begin()
		err := c.try(ctx, c.endpoints[i], r)
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		if err == nil || errors.Is(err, ErrNotFound) {
			c.choice.worked(i)
			return err
		}
		errs = append(errs, err)
		switch {
		case errors.Is(err, errSlow):
			return best(errs)
		case !errors.Is(err, ErrCluster):
			c.choice.didNot(i)
			c.log.Debug("endpoint", "url", c.endpoints[i].name, "err", err)
		}
	}
	return best(errs)
}

// best puts the error first that tells most: that somebody answered says more than that
// others did not.
func best(errs []error) error {
	for _, kind := range []error{ErrCluster, ErrRefused, ErrAnswer} {
		for _, err := range errs {
			if errors.Is(err, kind) {
				return err
			}
		}
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// try makes a call to one endpoint.
func (c *Client) try(parent context.Context, e *endpoint, r *request) error {
	limit := r.timeout
	switch {
	case limit > 0:
	case r.fanout:
		limit = c.fanout
	default:
		limit = c.cfg.CallTimeout
	}
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	patience := time.AfterFunc(limit, func() { cancel(errTime) })
	defer patience.Stop()
	if r.stream {
		total := time.AfterFunc(min(streamTimes*limit, streamMost), func() { cancel(errTime) })
		defer total.Stop()
	}
	more := func() {
		if r.stream {
			patience.Reset(limit)
		}
	}
	err := c.exchange(ctx, e, r, more)
	if err == nil || parent.Err() != nil {
		return err
	}
	if errors.Is(context.Cause(ctx), errTime) {
		err = fmt.Errorf("%w: %s: %w, which is %v", ErrUnavailable, e.name, errTime, limit)
		if r.fanout && c.alive(parent, e) {
			err = fmt.Errorf("%w: %s: %w within %v", ErrUnavailable, e.name, errSlow, limit)
		}
	}
	return err
}

// alive asks an endpoint for something that it knows by itself.
func (c *Client) alive(ctx context.Context, e *endpoint) bool {
	ctx, cancel := context.WithTimeout(ctx, min(probeTime, c.cfg.CallTimeout))
	defer cancel()
	var v wireVersion
	err := c.exchange(ctx, e, &request{
		method: http.MethodGet, path: "/version", read: func(d *json.Decoder) error { return d.Decode(&v) },
	}, func() {})
	return err == nil
}

func (c *Client) exchange(ctx context.Context, e *endpoint, r *request, more func()) error {
	target := e.base + r.path
	if r.query != "" {
		target += "?" + r.query
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, nil)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrConfig, e.name, err)
	}
	switch {
	case c.cfg.Token != "":
		req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	case c.cfg.User != "":
		req.SetBasicAuth(c.cfg.User, c.cfg.Password)
	}
	resp, err := e.http.Do(req)
	if err != nil {
		var inner *url.Error // repeats the URL
		if errors.As(err, &inner) {
			err = inner.Err
		}
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, e.name, err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	body := r.limit(resp.Body)
	if err := statusOf(resp, body); err != nil {
		return fmt.Errorf("%w (%s)", err, e.name)
	}
	if err := decode(resp, body, r, more); err != nil {
		return fmt.Errorf("%w (%s)", err, e.name)
	}
	return nil
}

// decode reads the answer, and what the cluster says after a stream of its end.
func decode(resp *http.Response, body *limited, r *request, more func()) error {
	if resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusAccepted {
		return nil
	}
	d := json.NewDecoder(body)
	for {
		err := r.read(d)
		if errors.Is(err, io.EOF) && r.stream {
			break
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrAnswer, err)
		}
		if !r.stream {
			return nil
		}
		body.value = maxValue
		more()
	}
	for _, text := range resp.Trailer.Values("X-Stream-Error") {
		if text != "" {
			return fmt.Errorf("%w: %s", ErrCluster, plain(text))
		}
	}
	return nil
}

// statusOf makes an error of an answer that is not a success.
func statusOf(resp *http.Response, body io.Reader) error {
	code := resp.StatusCode
	if code/100 == 2 {
		return nil
	}
	b, _ := io.ReadAll(io.LimitReader(body, 64<<10)) // what came is enough
	var said struct {
		Message string `json:"message"`
	}
	isJSON := json.Unmarshal(b, &said) == nil && said.Message != ""
	if !isJSON {
		said.Message = http.StatusText(code)
	}
	said.Message = plain(said.Message)
	switch {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		return fmt.Errorf("%w: %d %s", ErrRefused, code, said.Message)
	case code == http.StatusNotFound && isJSON:
		return fmt.Errorf("%w: %s", ErrNotFound, said.Message)
	case code == http.StatusBadGateway || code == http.StatusServiceUnavailable || code == http.StatusGatewayTimeout:
		return fmt.Errorf("%w: %d %s", ErrUnavailable, code, said.Message)
	case code >= 400 && isJSON:
		return fmt.Errorf("%w: %s", ErrCluster, said.Message)
	case code >= 500:
		return fmt.Errorf("%w: %d %s", ErrUnavailable, code, said.Message)
	}
	return fmt.Errorf("%w: HTTP status %d", ErrAnswer, code)
}

// plain makes a text from elsewhere fit for one line of a log or a page.
func plain(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " ")
	s = strings.ToValidUTF8(s, "?")
	if r := []rune(s); len(r) > maxMessage {
		s = string(r[:maxMessage]) + "…"
	}
	return s
}

// limit bounds what is read of an answer.
func (r *request) limit(body io.Reader) *limited {
	switch {
	case !r.stream:
		return &limited{from: body, value: maxObject, total: maxObject}
	case r.most > 0:
		return &limited{from: body, value: maxValue, total: r.most}
	}
	return &limited{from: body, value: maxValue, total: maxStream}
}

// limited reads no more than some bytes.
type limited struct {
	from         io.Reader
	value, total int64 // left for one value, and in all
}

func (l *limited) Read(p []byte) (int, error) {
	left := min(l.value, l.total)
	if left <= 0 {
		return 0, errTooLong
	}
	if int64(len(p)) > left {
		p = p[:left]
	}
	n, err := l.from.Read(p)
	l.value -= int64(n)
	l.total -= int64(n)
	return n, err
}
