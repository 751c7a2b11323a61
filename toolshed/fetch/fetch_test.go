package fetch

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var limits = Limits{Timeout: 10 * time.Second, Bytes: 1 << 20, Redirects: 3}

func TestPublic(t *testing.T) {
	for text, want := range map[string]bool{
		"1.1.1.1": true, "8.8.8.8": true, "100.63.255.255": true, "100.128.0.0": true, "172.15.0.1": true, "172.32.0.1": true,
		"2606:4700:4700::1111": true, "2a00:1450:4001:80b::200e": true, "64:ff9b::808:808": true, "::ffff:8.8.8.8": true,
		"127.0.0.1": false, "127.255.255.254": false, "::1": false, "0.0.0.0": false, "0.1.2.3": false, "::": false,
		"10.0.0.1": false, "172.16.0.1": false, "172.31.255.255": false, "192.168.1.1": false, "fd00::1": false, "fc00::1": false,
		"169.254.169.254": false, "fe80::1": false, "fe80::1%eth0": false, "fd00:ec2::254": false, "168.63.129.16": false,
		"100.64.0.1": false, "100.100.100.200": false, "100.127.255.255": false, "192.0.0.192": false,
		"192.0.2.1": false, "198.51.100.1": false, "203.0.113.1": false, "198.18.0.1": false, "198.19.255.255": false,
		"224.0.0.1": false, "239.1.1.1": false, "255.255.255.255": false, "240.0.0.1": false, "ff02::1": false, "192.88.99.1": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::127.0.0.1": false, "::8.8.8.8": false,
		"64:ff9b::7f00:1": false, "64:ff9b::a9fe:a9fe": false, "64:ff9b:1::808:808": false,
		"2002:7f00:1::": false, "2002:808:808::1": false, "2001::1": false, "2001:0:53aa:64c:0:0:80ff:fffe": false,
		"2001:db8::1": false, "3fff::1": false, "5f00::1": false, "100::1": false, "fec0::1": false, "2606:4700::1%eth0": false,
	} {
		if got := Public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
	if Public(netip.Addr{}) {
		t.Error("no address is public")
	}
}

// An IPv4 address is judged alike however it is written into an IPv6 one, or
// refused there.
func FuzzPublic(f *testing.F) {
	for _, seed := range [][]byte{{127, 0, 0, 1}, {8, 8, 8, 8}, {169, 254, 169, 254}, netip.MustParseAddr("fd00::1").AsSlice(), netip.MustParseAddr("2002:7f00:1::").AsSlice()} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		public := Public(a)
		if plain := a.Unmap(); public && (plain.IsLoopback() || plain.IsPrivate() || plain.IsLinkLocalUnicast() || plain.IsMulticast() || plain.IsUnspecified()) {
			t.Errorf("%s is public", a)
		}
		if Public(a.WithZone("eth0")) && a.Is6() && !a.Is4In6() {
			t.Errorf("%s with a zone is public", a)
		}
		if !a.Is4() {
			return
		}
		v4 := a.As4()
		embed := func(prefix string, at int) netip.Addr {
			b := netip.MustParseAddr(prefix).As16()
			copy(b[at:], v4[:])
			return netip.AddrFrom16(b)
		}
		if mapped := embed("::ffff:0:0", 12); Public(mapped) != public {
			t.Errorf("%s is judged otherwise than %s", mapped, a)
		}
		if translated := embed("64:ff9b::", 12); Public(translated) != public {
			t.Errorf("%s is judged otherwise than %s", translated, a)
		}
		for _, hidden := range []netip.Addr{embed("::", 12), embed("2002::", 2), embed("2001::", 4), embed("64:ff9b:1::", 12)} {
			if Public(hidden) && hidden != netip.IPv6Unspecified() {
				t.Errorf("%s, which is %s, is public", hidden, a)
			}
		}
	})
}

func get(t *testing.T, f *Fetcher, l Limits, url string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := f.Client(l).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

func fetcher(t *testing.T, allow ...string) *Fetcher {
	t.Helper()
	f, err := New(allow)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func server(t *testing.T, h http.HandlerFunc) (url, address, port string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	address = s.Listener.Addr().String()
	_, port, _ = net.SplitHostPort(address)
	return s.URL, address, port
}

// What is allowed is reached, and nothing beside it, by whatever name.
func TestAllowed(t *testing.T) {
	asked := 0
	_, address, port := server(t, func(w http.ResponseWriter, _ *http.Request) { asked++; io.WriteString(w, "inside") })
	for _, c := range []struct {
		allow []string
		host  string
		ok    bool
	}{
		{nil, "127.0.0.1", false}, {nil, "localhost", false}, {nil, "[::ffff:127.0.0.1]", false},
		{[]string{address}, "127.0.0.1", true}, {[]string{address}, "[::ffff:127.0.0.1]", true}, {[]string{address}, "localhost", true},
		{[]string{"127.0.0.0/8"}, "127.0.0.1", true}, {[]string{"127.0.0.1"}, "127.0.0.1", true}, {[]string{"127.0.0.1:1"}, "127.0.0.1", false},
		{[]string{"10.0.0.0/8"}, "127.0.0.1", false}, {[]string{"localhost"}, "LOCALHOST", true}, {[]string{"localhost:" + port}, "localhost", true},
		{[]string{"localhost:1"}, "localhost", false}, {[]string{"localhost"}, "127.0.0.1", false},
	} {
		before := asked
		text, err := get(t, fetcher(t, c.allow...), limits, "http://"+c.host+":"+port+"/")
		if c.ok != (err == nil && text == "inside") || (!c.ok && !errors.Is(err, ErrForbidden)) || (asked > before) != c.ok {
			t.Errorf("%v, %s: %q, error %v, asked %d times", c.allow, c.host, text, err, asked-before)
		}
	}
	for _, text := range []string{"", "http://a", "a b", "10.0.0.0/99", "a:b:c", "user@host"} {
		if _, err := New([]string{text}); err == nil {
			t.Errorf("allowed %q", text)
		}
	}
}

// A redirect is dialled anew, and so judged anew.
func TestRedirects(t *testing.T) {
	inside, led := 0, 0
	_, _, port := server(t, func(http.ResponseWriter, *http.Request) { inside++ })
	outside, address, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/in":
			http.Redirect(w, r, "http://127.0.0.1:"+port+"/", http.StatusFound)
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		default:
			led++
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
		}
	})
	f := fetcher(t, address)
	if _, err := get(t, f, limits, outside+"/in"); !errors.Is(err, ErrForbidden) || inside != 0 {
		t.Errorf("error %v, the other was asked %d times", err, inside)
	}
	if _, err := get(t, f, limits, outside+"/x"); !errors.Is(err, ErrTooManyRedirects) || led != limits.Redirects+1 {
		t.Errorf("error %v after %d answers", err, led)
	}
	if _, err := get(t, f, limits, outside+"/file"); err == nil {
		t.Error("a file is read")
	}
}

// The environment's proxy would dial by itself.
func TestNoProxy(t *testing.T) {
	asked := false
	proxy, address, _ := server(t, func(http.ResponseWriter, *http.Request) { asked = true })
	t.Setenv("HTTP_PROXY", proxy)
	t.Setenv("http_proxy", proxy)
	f := fetcher(t, address)
	// The environment is read once in a process, maybe before this.
	if f.transport.Proxy != nil {
		t.Error("there is a proxy")
	}
	if _, err := get(t, f, limits, "http://10.255.255.1/"); !errors.Is(err, ErrForbidden) || asked {
		t.Errorf("error %v, the proxy was asked: %t", err, asked)
	}
}

func TestBytes(t *testing.T) {
	url, address, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		text := strings.Repeat("x", 1000)
		if r.URL.Path == "/known" {
			w.Header().Set("Content-Length", "1000")
		}
		for _, part := range []string{text[:500], text[500:]} {
			io.WriteString(w, part)
			http.NewResponseController(w).Flush()
		}
	})
	f := fetcher(t, address)
	for _, path := range []string{"/known", "/chunked"} {
		for bytes, want := range map[int64]error{1000: nil, 999: ErrTooLong, 0: ErrTooLong} {
			text, err := get(t, f, Limits{Bytes: bytes}, url+path)
			if !errors.Is(err, want) || (want == nil && len(text) != 1000) || int64(len(text)) > bytes {
				t.Errorf("%s with %d: %d bytes, error %v", path, bytes, len(text), err)
			}
		}
	}
}

func TestTimeout(t *testing.T) {
	url, address, _ := server(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	_, err := get(t, fetcher(t, address), Limits{Timeout: 50 * time.Millisecond, Bytes: 1}, url)
	var late net.Error
	if !errors.As(err, &late) || !late.Timeout() || errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func FuzzParseAllowed(f *testing.F) {
	for _, s := range []string{"127.0.0.1:11434", "10.0.0.0/8", "ollama.local:80", "[::1]:80", "::1", "fe80::1%eth0", "http://x", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAllowed([]string{text})
		if err != nil {
			return
		}
		if len(a.hosts)+len(a.ranges) != 1 {
			t.Errorf("%q allows %v", text, a)
		}
		// What is allowed by name allows no address.
		if len(a.ranges) == 0 && a.contains(netip.MustParseAddrPort("127.0.0.1:80")) {
			t.Errorf("%q allows loopback", text)
		}
	})
}
