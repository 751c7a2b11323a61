package url2text

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func chromium(t *testing.T, dial Dial) *Chromium {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is missing (Debian package chromium)")
	}
	return &Chromium{Path: path, Dial: dial, Timeout: time.Minute, WithoutSandbox: os.Geteuid() == 0}
}

const scripted = `<!doctype html><html><head><title>made by a script</title></head><body><article id="a"></article><script>
const p = document.createElement("p");
p.textContent = "These words were written by a script, and there are enough of them here for a reader to find. ".repeat(5);
document.getElementById("a").append(p);
</script></body></html>`

// What scripts write is read, and what they fetch goes where the dialer goes
// and nowhere else.
func TestBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("a browser takes seconds")
	}
	var reached atomic.Int32
	secret := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(secret.Close)
	r, u := site(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/" {
			http.Redirect(w, q, "/page", http.StatusFound)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, strings.Replace(scripted, "<script>", fmt.Sprintf("<script>fetch(%q, {mode: \"no-cors\"});", secret.URL), 1))
	})
	var refused atomic.Int32
	r.Browser = chromium(t, func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != u.Host {
			refused.Add(1)
			return nil, errors.New("not there")
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	})
	start := &url.URL{Scheme: "http", Host: u.Host, Path: "/"}
	doc, err := r.Read(t.Context(), start, Options{Format: Markdown, Browser: true})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(doc.Content, "These words were written by a script") || doc.Title != "made by a script" || !strings.HasSuffix(doc.URL, "/page") {
		t.Errorf("%+v", doc)
	}
	if reached.Load() != 0 || refused.Load() == 0 {
		t.Errorf("a script reached %d, was refused %d", reached.Load(), refused.Load())
	}
	plain, err := r.Read(t.Context(), start, Options{Format: Markdown})
	if err != nil || strings.Contains(plain.Content, "These words") {
		t.Errorf("without a browser: %+v, %v", plain, err)
	}
}

// The proxy carries plain requests and tunnels, and ends what is open with it.
func TestProxy(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "secure") }))
	t.Cleanup(server.Close)
	p, err := startProxy(new(net.Dialer).DialContext)
	if err != nil {
		t.Fatal(err)
	}
	transport := server.Client().Transport.(*http.Transport).Clone()
	transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: p.address()})
	client := &http.Client{Transport: transport}
	resp, err := client.Get(server.URL)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	direct, err := http.Get("http://" + p.address() + "/")
	if err != nil || direct.StatusCode != http.StatusBadRequest {
		t.Errorf("a request that is no proxy's: %v, %v", direct, err)
	}
	direct.Body.Close()
	p.close()
	if resp, err := client.Get(server.URL); err == nil {
		resp.Body.Close()
		t.Error("a closed proxy carries requests")
	}
}

// The proxy goes where its dial goes, with plain requests as with tunnels.
func TestProxyIsBarred(t *testing.T) {
	asked := false
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	t.Cleanup(inside.Close)
	var dialled []string
	p, err := startProxy(func(_ context.Context, _, address string) (net.Conn, error) {
		dialled = append(dialled, address)
		return nil, errors.New("not there")
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: p.address()}), DisableKeepAlives: true}}
	// Go's own client sends this machine's addresses to a proxy that it is given.
	address := strings.TrimPrefix(inside.URL, "http://")
	if resp, err := client.Get(inside.URL); err != nil || resp.StatusCode != http.StatusBadGateway {
		t.Errorf("a plain request: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	if resp, err := client.Get("https://" + address); err == nil {
		resp.Body.Close()
		t.Error("a tunnel to where none may be")
	}
	if asked || len(dialled) != 2 || dialled[0] != address || dialled[1] != address {
		t.Errorf("asked: %t, dialled %q", asked, dialled)
	}
}
