package toolshed_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// printed is a page of the documentation whose commands are run as they are
// printed, but for the addresses of servers.
type printed struct {
	t   *testing.T
	dir string
	// url is the toolshed's, known what leads to it with nothing but the token, env
	// what the page has the reader set, and prelude what it sets itself.
	url, known string
	token      string
	env        []string
	prelude    string
	// instead is what stands for words that a reader fills in.
	instead map[string]string
	// before readies the toolshed for a command.
	before func(p *printed, command string)
}

func TestPrintedCommands(t *testing.T) {
	files, err := filepath.Glob("../docs/toolshed/*.md")
	if err != nil || len(files) < 11 {
		t.Fatalf("%d pages, error %v", len(files), err)
	}
	article := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<title>Sheds</title><article><h1>Sheds</h1><p>%s</p></article>", strings.Repeat("A shed is a small house. ", 30))
	}))
	t.Cleanup(article.Close)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".md")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p := newPrinted(t, name)
			p.instead["https://example.com/"] = article.URL + "/"
			ran := 0
			for _, command := range commandsIn(string(text)) {
				ran += p.run(command)
			}
			if ran == 0 {
				t.Error("the page has no command")
			}
		})
	}
}

func newPrinted(t *testing.T, name string) *printed {
	page := pages[name]
	config := ""
	if page.config != nil {
		config = page.config(t)
	}
	p := &printed{t: t, dir: t.TempDir(), url: serveWith(t, config), before: page.before}
	p.token, p.known = p.minted(p.url), byTokenAlone(t, p.url)
	p.env = append(os.Environ(), "PATH="+p.dir+":"+os.Getenv("PATH"), "TOKEN="+p.token, "URL="+p.known)
	p.instead = map[string]string{
		"http://127.0.0.1:8080": p.known, "localhost:8080": "localhost:" + p.known[strings.LastIndex(p.known, ":")+1:],
	}
	// What fails fails here too, and what would go on for ever ends.
	p.file("curl", `#!/bin/sh
out=$(mktemp)
case " $* " in *" -N "*|*" -sN "*) wait=1 ;; *) wait=20 ;; esac
/usr/bin/curl --fail-with-body -sS -m "$wait" "$@" > "$out"; status=$?
cat "$out"
[ $wait = 1 ] && [ $status = 28 ] && [ -s "$out" ] && status=0
rm "$out"
exit $status
`)
	if page.ready != nil {
		page.ready(p)
	}
	return p
}

// byTokenAlone leads to a toolshed without the agent's word.
func byTokenAlone(t *testing.T, s string) string {
	t.Helper()
	at, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(at)
		r.Out.Host = r.In.Host
		if r.In.Header.Get("Authorization") == "" {
			r.Out.Header.Set("Authorization", "Bearer shed_nobody")
		}
	}})
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// another is a toolshed in place of the one that the page had.
func (p *printed) another(config string) {
	p.t.Helper()
	p.url = serveWith(p.t, config)
	p.prelude += "D=" + byTokenAlone(p.t, p.url) + "/api/data\nT='Authorization: Bearer " + p.minted(p.url) + "'\n"
}

func (p *printed) minted(s string) string {
	p.t.Helper()
	_, text, _ := ask(p.t, s, "POST", "/api/auth/tokens", `{"name":"reader","scopes":["*"]}`, "Content-Type", "application/json")
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(text), &made); err != nil {
		p.t.Fatal(err, text)
	}
	return made.Token
}

func (p *printed) file(name, content string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(content), 0o700); err != nil {
		p.t.Fatal(err)
	}
}

// did asks for what the reader would have done before.
func (p *printed) did(method, path, body string, header ...string) string {
	p.t.Helper()
	status, text, _ := ask(p.t, p.url, method, path, body, header...)
	if status >= 300 {
		p.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	return text
}

var (
	assignment = regexp.MustCompile(`^[A-Z]+=`)
	// said is what a reader takes from an answer.
	said = map[string]*regexp.Regexp{
		"SHA256": regexp.MustCompile(`"sha256":\s?"([0-9a-f]{64})"`), "BLAKE3": regexp.MustCompile(`"blake3":\s?"([0-9a-f]{64})"`),
		"/ID": regexp.MustCompile(`(?i)location: \S+(/[a-z0-9]+)\r`),
	}
)

// commandsIn are those of a page's blocks, each with the lines that it goes on
// in.
func commandsIn(page string) (all []string) {
	const fence = "```"
	kind, inside, command := "", false, ""
	for line := range strings.Lines(page) {
		if rest, ok := strings.CutPrefix(line, fence); ok {
			kind, inside = strings.TrimSpace(rest), !inside
			continue
		}
		if !inside || kind != "" && kind != "sh" {
			continue
		}
		command += line
		if strings.HasSuffix(line, "\\\n") || strings.Count(command, "'")%2 == 1 {
			continue
		}
		all = append(all, strings.TrimSpace(command))
		command = ""
	}
	return all
}

var bareToken = regexp.MustCompile(`([^$A-Z_])TOKEN\b`)

// run runs a command of curl's, and what it needs, and answers how many it ran.
func (p *printed) run(command string) int {
	p.t.Helper()
	for word, is := range p.instead {
		command = strings.ReplaceAll(command, word, is)
	}
	command = bareToken.ReplaceAllString(command, "${1}"+p.token)
	if assignment.MatchString(command) && !strings.Contains(command, "curl") && !strings.Contains(command, " ") || strings.HasPrefix(command, "T=") || strings.HasPrefix(command, "J=") {
		p.prelude += command + "\n"
		return 0
	}
	if !strings.Contains(command, "curl ") && !strings.HasPrefix(command, "age-keygen") {
		return 0
	}
	if p.before != nil {
		p.before(p, command)
	}
	// A command in the background ends with its own.
	cmd := exec.CommandContext(p.t.Context(), "bash", "-c", "set -eo pipefail\n"+p.prelude+command+"\nwait\n")
	cmd.Dir, cmd.Env = p.dir, p.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Errorf("%s\n%v: %s", command, err, out)
	}
	for word, in := range said {
		if found := in.FindSubmatch(out); found != nil {
			p.instead[word] = string(found[1])
		}
	}
	return 1
}
