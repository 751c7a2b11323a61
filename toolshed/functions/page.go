package functions

import (
	_ "embed"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/toolshed-cloud/shed/toolshed/functions/sandbox"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/page"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

//go:embed page.html
var pageText string

//go:embed one.html
var oneText string

var (
	allPage = page.New("Functions", "", pageText)
	onePage = page.New("Function", "", oneText)
)

type allShown struct {
	Functions   []Function
	Name, Error string
}

type oneShown struct {
	Function
	Versions           []Version
	Calls              []Entry
	Path, Body, Answer string
	Called             bool
	Error, Host        string
}

// onPage is how many calls the page shows.
const onPage = 20

// registerPage puts the pages for people on an API's place.
func (h handlers) registerPage(m *mount.Mount) {
	m.Page("/functions", ScopeRead, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.showAll(w, r, http.StatusOK, allShown{})
	}))
	m.Handle("GET /functions/{name}", mount.Route{Scope: ScopeRead}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.showOne(w, r, http.StatusOK, oneShown{Path: "/"})
	}))
	m.Handle("POST /functions", mount.Route{
		Scope: ScopeWrite, Accepts: []string{"multipart/form-data"}, BodyBytes: sandbox.MaxModuleBytes + 64<<10,
	}, http.HandlerFunc(h.deployOnPage))
	form := []string{"application/x-www-form-urlencoded"}
	m.Handle("POST /functions/{name}/rollback", mount.Route{Scope: ScopeWrite, Accepts: form}, http.HandlerFunc(h.rollbackOnPage))
	m.Handle("POST /functions/{name}/invoke", mount.Route{Scope: ScopeInvoke, Accepts: form, Lasting: true}, http.HandlerFunc(h.invokeOnPage))
}

func (h handlers) showAll(w http.ResponseWriter, r *http.Request, status int, d allShown) {
	err := h.ledger.flush(r.Context())
	if err == nil {
		d.Functions, err = h.shelf.list(r.Context())
	}
	if err == nil {
		err = allPage.Write(w, status, d)
	}
	if err != nil {
		unshown(w)
	}
}

func unshown(w http.ResponseWriter) {
	problem.Of(http.StatusInternalServerError, "this page cannot be shown").Write(w)
}

func (h handlers) showOne(w http.ResponseWriter, r *http.Request, status int, d oneShown) {
	name := r.PathValue("name")
	var err error
	if d.Calls, err = h.Logs(r.Context(), name, 0, onPage); err == nil {
		d.Function, _, err = h.shelf.get(r.Context(), name)
	}
	if err == nil {
		d.Versions, err = h.shelf.versions(r.Context(), name)
	}
	if errors.Is(err, ErrNotFound) {
		http.Redirect(w, r, "/functions", http.StatusSeeOther)
		return
	}
	d.Host = name + ".fn." + r.Host
	if err == nil {
		err = onePage.Write(w, status, d)
	}
	if err != nil {
		unshown(w)
	}
}

func (h handlers) deployOnPage(w http.ResponseWriter, r *http.Request) {
	name := r.FormValue("name")
	file, _, err := r.FormFile("module")
	var module []byte
	if err == nil {
		defer file.Close()
		module, err = io.ReadAll(io.LimitReader(file, sandbox.MaxModuleBytes+1))
	}
	if r.MultipartForm != nil {
		defer r.MultipartForm.RemoveAll() //nolint:errcheck // the system empties its folder too
	}
	if err != nil {
		h.showAll(w, r, http.StatusBadRequest, allShown{Name: name, Error: "Choose a module of at most 16 MiB."})
		return
	}
	if err = h.mayRun(r.Context(), name, Settings{}); err == nil {
		_, _, err = h.Deploy(r.Context(), name, module)
	}
	if err != nil {
		p := refusal(err)
		h.showAll(w, r, p.Status, allShown{Name: name, Error: p.Detail})
		return
	}
	http.Redirect(w, r, "/functions/"+name, http.StatusSeeOther)
}

func (h handlers) rollbackOnPage(w http.ResponseWriter, r *http.Request) {
	version, err := strconv.ParseInt(r.PostFormValue("version"), 10, 64)
	if err != nil {
		err = ErrVersion
	} else {
		err = h.rollBack(r.Context(), r.PathValue("name"), version)
	}
	if err != nil {
		p := refusal(err)
		h.showOne(w, r, p.Status, oneShown{Path: "/", Error: p.Detail})
		return
	}
	http.Redirect(w, r, "/functions/"+r.PathValue("name"), http.StatusSeeOther)
}

// invokeOnPage shows what a function answers as text, whatever it says it is.
func (h handlers) invokeOnPage(w http.ResponseWriter, r *http.Request) {
	d := oneShown{Path: r.PostFormValue("path"), Body: r.PostFormValue("body"), Called: true}
	outcome, err := h.Invoke(r.Context(), r.PathValue("name"), TriggerHTTP, []string{
		"GATEWAY_INTERFACE=CGI/1.1", "REQUEST_METHOD=POST", "PATH_INFO=" + strings.ReplaceAll(d.Path, "\x00", ""), "QUERY_STRING=",
		"CONTENT_LENGTH=" + strconv.Itoa(len(d.Body)),
	}, []byte(d.Body))
	status := http.StatusOK
	if err != nil {
		p := refusal(err)
		status, d.Error = p.Status, p.Detail
	}
	d.Answer = text(outcome.Output)
	h.showOne(w, r, status, d)
}
