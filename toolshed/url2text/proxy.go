package url2text

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

// Dial opens a connection to where may be connected to.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// proxy is a forward proxy on this machine, for one browser: CONNECT for TLS,
// absolute addresses for plain HTTP (RFC 9110, sections 9.3.6 and 7.6).
type proxy struct {
	dial     Dial
	listener net.Listener
	server   *http.Server
	plain    *httputil.ReverseProxy
	// tunnels is of the connections that the server no longer knows.
	tunnels sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc
}

func startProxy(dial Dial) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the browser's proxy: %w", err)
	}
	p := &proxy{dial: dial, listener: listener}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.plain = &httputil.ReverseProxy{
		Rewrite:   func(*httputil.ProxyRequest) {},
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true},
	}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}
	go p.server.Serve(listener) //nolint:errcheck // it ends by close
	return p, nil
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) close() {
	p.cancel()
	p.server.Close() //nolint:errcheck // a browser that is gone
	p.tunnels.Wait()
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodConnect:
		p.tunnel(w, r)
	case r.URL.Scheme == "http" && r.URL.Host != "":
		p.plain.ServeHTTP(w, r)
	default:
		http.Error(w, "a proxy takes absolute addresses", http.StatusBadRequest)
	}
}

func (p *proxy) tunnel(w http.ResponseWriter, r *http.Request) {
	there, err := p.dial(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	here, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		there.Close()
		return
	}
	p.tunnels.Add(1)
	defer p.tunnels.Done()
	stop := context.AfterFunc(p.ctx, func() { here.Close(); there.Close() }) //nolint:errcheck // they are given up
	defer stop()
	if _, err := io.WriteString(here, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		there.Close()
		here.Close()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(there, here) //nolint:errcheck // either end may hang up
		there.Close()
	}()
	io.Copy(here, there) //nolint:errcheck // as above
	here.Close()
	<-done
}
