// A web server whose users log in with their DIDs. auth/login/README.md explains it.
package main

import (
	"crypto/rand"
	"fmt"
	"html"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/cluster-labs/ipfscloud/auth/login"
)

func main() {
	l, err := net.Listen("tcp", append(os.Args, "127.0.0.1:8080")[1])
	if err != nil {
		panic(err)
	}
	var sessions sync.Map // cookie to *login.Login
	site, err := login.NewSite(login.SiteConfig{
		Config: login.Config{Audience: "http://" + l.Addr().String(), Claims: []string{"name"}}, // your https origin
		Path:   "/login/",
		Done: func(w http.ResponseWriter, r *http.Request, who *login.Login) {
			session := rand.Text()
			sessions.Store(session, who)
			http.SetCookie(w, &http.Cookie{Name: "session", Value: session, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
			http.Redirect(w, r, "/", http.StatusSeeOther)
		},
	})
	if err != nil {
		panic(err)
	}
	http.Handle("/login/", site)
	http.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie("session"); err == nil {
			if who, ok := sessions.Load(c.Value); ok {
				fmt.Fprintf(w, "<p id=who>You are %s</p>", html.EscapeString(who.(*login.Login).ID))
				for _, c := range who.(*login.Login).Credentials {
					fmt.Fprintf(w, "<p class=claim>%s says: %s</p>", html.EscapeString(c.Issuer), html.EscapeString(fmt.Sprint(c.Claims)))
				}
				return
			}
		}
		fmt.Fprint(w, `<p id=who>Nobody</p><a href="/login/">Log in</a>`)
	})
	fmt.Println("http://" + l.Addr().String())
	panic(http.Serve(l, nil))
}
