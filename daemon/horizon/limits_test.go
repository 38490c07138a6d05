package horizon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

func TestOversized(t *testing.T) {
	s := serve(t)
	cookie, csrf := s.login()
	for _, size := range []int{8 << 10, 1 << 20} {
		for _, path := range []string{"/login", "/unpin", "/retry"} {
			for _, length := range []bool{true, false} {
				var body io.Reader = strings.NewReader(url.Values{"csrf": {csrf}, "cid": {strings.Repeat("x", size)}}.Encode())
				if !length {
					body = io.MultiReader(body)
				}
				r, _ := http.NewRequest("POST", strings.TrimSuffix(s.URL(), "/")+path, body)
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				r.Header.Set("Origin", "http://"+r.Host)
				r.Header.Set("Cookie", cookie)
				resp, err := s.client().Do(r)
				if err != nil && size > 1<<16 { // the server hung up while we were sending
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusRequestEntityTooLarge {
					t.Errorf("%s, %d bytes, with a length %v: %s", path, size, length, resp.Status)
				}
			}
		}
	}
	r, _ := http.NewRequest("GET", s.URL(), nil)
	r.Header.Set("X", strings.Repeat("x", 24<<10))
	resp, err := s.client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a large header: %s", resp.Status)
	}
	if _, unpinned := s.source.acts(); len(unpinned) > 0 {
		t.Error("a large form did something")
	}
}

// tight makes slow clients show quickly.
func tight(s *Server) {
	s.limits.header, s.limits.read, s.limits.write = 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
	s.limits.conns, s.limits.streams, s.limits.beat = 6, 2, 50*time.Millisecond
	s.watcher.often = 5 * time.Millisecond
}

// closed waits until the other side hangs up.
func closed(t *testing.T, what string, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(what, ": the server waits for ever")
	}
	c.Close()
}

func TestSlowClients(t *testing.T) {
	t.Parallel()
	s := serve(t, tight)
	cookie, _ := s.login()
	dial := func(text string) net.Conn {
		c, err := net.Dial("tcp", s.address())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, text)
		return c
	}
	slow := map[string]string{
		"nothing":       "",
		"half a header": "GET / HTTP/1.1\r\nHost: " + s.name + "\r\nX",
		"half a body": "POST /login HTTP/1.1\r\nHost: " + s.name + "\r\nOrigin: http://" + s.name +
			"\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ncode=",
	}
	for what, text := range slow {
		closed(t, what, dial(text))
	}
	// More connections than granted: the further ones are closed at once, and the page is
	// there again when the slow ones have been thrown out.
	var idle []net.Conn
	for range 4 * s.limits.conns {
		idle = append(idle, dial(""))
	}
	for _, c := range idle {
		closed(t, "one of many", c)
	}
	eventually(t, "the page after many connections", func() bool {
		resp, err := s.client().Get(s.URL() + "login")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	})
	// A stream that is not read is ended. Its news are large, and new each time.
	s.source.change(func(st *State) {
		st.Errors = nil
		for range rowsErrors {
			st.Errors = append(st.Errors, Failure{time.Now(), "x", strings.Repeat("€", 300)})
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	driving := make(chan struct{})
	go func() {
		defer close(driving)
		for i := 0; ctx.Err() == nil; i++ {
			s.source.change(func(st *State) {
				list := append([]Failure(nil), st.Errors...)
				for j := range list {
					list[j].Part = fmt.Sprint(i)
				}
				st.Errors = list
			})
			time.Sleep(time.Millisecond)
		}
	}()
	defer func() { cancel(); <-driving }()
	c := dial("")
	_ = c.(*net.TCPConn).SetReadBuffer(1024)
	_, _ = io.WriteString(c, "GET /events HTTP/1.1\r\nHost: "+s.name+"\r\nCookie: "+cookie+"\r\n\r\n")
	eventually(t, "the stream", func() bool { return len(s.streams) == 1 })
	eventually(t, "the end of a stream that is not read", func() bool { return len(s.streams) == 0 })
	c.Close()
}
