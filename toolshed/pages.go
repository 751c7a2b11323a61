package toolshed

import (
	_ "embed"
	"net/http"
	"strings"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/page"
)

//go:embed login.html
var loginText string

var loginPage = page.New("Sign in", "/assets/login.js", loginText)

// maxLoginBytes bounds the form with the token.
const maxLoginBytes = 4 << 10

// registerPages puts the root's own pages on the mux, once every API is there.
func (r *Root) registerPages() {
	m := r.site.New("pages", mount.Limits{})
	m.Page("/{$}", auth.Everything, r.page(homePage, r.home))
	m.Page("/reference", "", r.page(referencePage, func(*http.Request) (any, error) { return newReference(r.api.OpenAPI()), nil }))
	m.Handle("GET /assets/{name}", mount.Route{Public: true}, page.Assets())
	m.Handle("GET /login", mount.Route{Public: true}, r.page(loginPage, func(*http.Request) (any, error) { return nil, nil }))
	m.Handle("POST /login", mount.Route{
		Public: true, Accepts: []string{"application/x-www-form-urlencoded"}, BodyBytes: maxLoginBytes,
	}, auth.SameSite(http.HandlerFunc(r.login)))
	m.Handle("POST /logout", mount.Route{Public: true}, auth.SameSite(http.HandlerFunc(r.logout)))
}

// page answers with a page of what data says.
func (r *Root) page(p *page.Page, data func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		shown, err := data(req)
		if err == nil {
			err = p.Write(w, http.StatusOK, shown)
		}
		if err != nil {
			r.Log.Error("page", zap.String("request", mount.RequestID(req.Context())), zap.Error(err))
			http.Error(w, "this page cannot be shown", http.StatusInternalServerError)
		}
	})
}

// login gives a browser the token that its owner has.
func (r *Root) login(w http.ResponseWriter, req *http.Request) {
	cookie := r.guard.Cookie(strings.TrimSpace(req.PostFormValue("token")))
	if cookie == nil {
		if err := loginPage.Write(w, http.StatusUnauthorized, "This is no token of this toolshed's, or one that was revoked or has expired."); err != nil {
			r.Log.Error("page", zap.Error(err))
		}
		return
	}
	http.SetCookie(w, cookie)
	http.Redirect(w, req, "/", http.StatusSeeOther)
}

func (r *Root) logout(w http.ResponseWriter, req *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: auth.CookieName, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, req, "/login", http.StatusSeeOther)
}
