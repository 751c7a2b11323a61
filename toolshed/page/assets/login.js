// The printed address carries the token behind #, which browsers send nobody.
const form = document.querySelector("form");
const token = location.hash.slice(1);
if (token) {
  history.replaceState(null, "", location.pathname);
  form.elements.token.value = token;
  form.submit();
}
