package toolshed_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/toolshed-cloud/shed/toolshed/functions/functionstest"
)

// pages are those that need more than a toolshed with a token. The others are run
// too.
var pages = map[string]struct {
	config func(t *testing.T) string
	ready  func(p *printed)
	before func(p *printed, command string)
}{
	"backup": {ready: readyBackup},
	"blobs": {
		ready: func(p *printed) { p.file("letter.txt", strings.Repeat("A letter. ", 20)) },
		before: func(p *printed, command string) {
			if strings.Contains(command, "/sites/blog -d") {
				p.did("POST", "/api/blobs", strings.Repeat("A letter. ", 20), "Content-Type", "text/plain")
			}
		},
	},
	"data": {before: beforeData},
	"functions": {ready: func(p *printed) {
		module, err := functionstest.Build(p.t.Context(), p.dir, "package main\n\nfunc main() { println(\"called\") }\n")
		if err != nil {
			p.t.Fatal(err)
		}
		p.file("hello.wasm", string(module))
	}},
	"img": {config: func(t *testing.T) string {
		return strings.Replace(imgConfig(t, painters(t).URL), "    fal:", "    flux:", 1)
	}},
	"llm": {config: func(t *testing.T) string {
		return llmConfig(map[string]string{"home": newStandIn(t, says("A small house.")).URL}, "  aliases: {quick: [home/tiny]}\n")
	}},
	"queue": {before: beforeQueue},
	"transcribe": {
		config: func(*testing.T) string {
			return "transcribe:\n  first: here\n  engines:\n    here: {kind: pocketsphinx, path: /usr/bin/pocketsphinx_continuous, ffmpeg: /usr/bin/ffmpeg}\n"
		},
		ready: func(p *printed) {
			out, err := exec.Command("flite", "-voice", "rms", "-t", "hello world", "-o", filepath.Join(p.dir, "memo.wav")).CombinedOutput()
			if err != nil {
				p.t.Fatalf("flite (Debian package flite): %v\n%s", err, out)
			}
		},
	},
	"url2text": {config: func(*testing.T) string { return allowLoopback }},
}

// decryptEnv makes this program age, of whose command line it has -d -i KEY FILE.
const decryptEnv = "TOOLSHED_TEST_AGE"

func decrypt() error {
	if len(os.Args) != 5 || os.Args[1] != "-d" || os.Args[2] != "-i" {
		return fmt.Errorf("age %q", os.Args[1:])
	}
	keys, err := os.Open(os.Args[3])
	if err != nil {
		return err
	}
	defer keys.Close()
	identities, err := age.ParseIdentities(keys)
	if err != nil {
		return err
	}
	file, err := os.Open(os.Args[4])
	if err != nil {
		return err
	}
	defer file.Close()
	plain, err := age.Decrypt(file, identities...)
	if err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, plain)
	return err
}

// readyBackup has age's programs, and another toolshed that is fresh.
func readyBackup(p *printed) {
	if out, err := exec.Command("go", "build", "-o", filepath.Join(p.dir, "age-keygen"), "filippo.io/age/cmd/age-keygen").CombinedOutput(); err != nil {
		p.t.Fatalf("building age-keygen: %v\n%s", err, out)
	}
	p.file("age", fmt.Sprintf("#!/bin/sh\n%s=1 exec %q \"$@\"\n", decryptEnv, os.Args[0]))
	p.did("PUT", "/api/kv/colour", "green")
	fresh := serveWith(p.t, "")
	p.env = append(p.env, "FRESH_URL="+byTokenAlone(p.t, fresh), "FRESH="+p.minted(fresh))
}

// photos is a database elsewhere.
func photos(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "photos.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), "CREATE TABLE pictures (name TEXT, year INTEGER); INSERT INTO pictures VALUES ('a', 2024)")
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("data:\n  external:\n    photos: {kind: sqlite, path: %q}\n", path)
}

func beforeData(p *printed, command string) {
	const one = "/api/data/collections/people/documents/"
	form := []string{"Content-Type", "application/json"}
	switch {
	case strings.Contains(command, "people/query"):
		p.did("PUT", one+"ann", `{"name": "Ann", "age": 41, "tags": ["a"]}`, form...)
	case strings.Contains(command, "/transactions"):
		// It says that Ann's document is of version 2.
		p.another("")
		p.did("PUT", one+"ann", `{"name": "Ann"}`, form...)
		p.did("PUT", one+"ann", `{"name": "Ann", "age": 1}`, form...)
	case strings.Contains(command, "after=7"):
		for range 5 {
			p.did("PUT", one+"carl", `{"name": "Carl"}`, form...)
		}
	case strings.HasSuffix(command, "/external"):
		p.another(photos(p.t))
	}
}

// beforeQueue gives the command a message of its own, in the state that it is
// about.
func beforeQueue(p *printed, command string) {
	if strings.Contains(command, "-d '{\"to\"") || !strings.Contains(command, "/api/queue/mail/") {
		return
	}
	var got struct {
		ID       string
		Messages []struct{ ID, Receipt string }
	}
	receive := func() {
		if err := json.Unmarshal([]byte(p.did("POST", "/api/queue/mail/receive?wait=5s", "")), &got); err != nil || len(got.Messages) != 1 {
			p.t.Fatal(err, got)
		}
		p.env = append(p.env, "ID="+got.Messages[0].ID, "RECEIPT="+got.Messages[0].Receipt)
	}
	p.did("POST", "/api/queue/mail?backoff=none", "a letter")
	switch {
	case strings.Contains(command, "$RECEIPT"):
		receive()
	case strings.Contains(command, "$ID"):
		receive()
		p.did("POST", "/api/queue/mail/messages/"+got.Messages[0].ID+"/nack?receipt="+got.Messages[0].Receipt, "")
	}
}
