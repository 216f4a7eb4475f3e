package packages_test

import (
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/packages"
)

func TestParseTakesWhatPEP508Allows(t *testing.T) {
	for text, name := range map[string]string{
		"pandas":                             "pandas",
		" pandas ":                           "pandas",
		"A":                                  "A",
		"zope.interface":                     "zope.interface",
		"numpy==1.26.4":                      "numpy",
		"numpy == 1.26.*":                    "numpy",
		"numpy!=1.*,>=0.1,<99":               "numpy",
		"numpy (>=1,<3)":                     "numpy",
		"numpy~=1.26":                        "numpy",
		"numpy===1.26.4+weird_thing":         "numpy",
		"numpy==1!2.0.0rc1.post3.dev4+cu.12": "numpy",
		"numpy>=v1.0-1":                      "numpy",
		"requests[security,tests]>=2.8.1":    "requests",
		"requests[]":                         "requests",
		"requests [ a , b ] ":                "requests",
		"x;python_version<'3.8'":             "x",
		`x>=1 ; python_version >= "3.8" and (os_name == 'posix' or "a" not in sys_platform)`: "x",
		"x ; extra == 'a' and 'linux' in sys_platform":                                       "x",
		"pip @ https://example.org/pip-22.0-py3-none-any.whl":                                "pip",
		"pip[x] @ git+https://example.org/pip@main ; os_name == 'posix'":                     "pip",
	} {
		r, err := packages.Parse(text)
		if err != nil || r.Name != name || r.String() != strings.Trim(text, " ") {
			t.Errorf("%q: %+v, %v", text, r, err)
		}
		if (r.URL != "") != strings.Contains(text, "@") {
			t.Errorf("%q: URL %q", text, r.URL)
		}
	}
}

func TestParseRefusesAllElse(t *testing.T) {
	for _, text := range []string{
		"", " ", "-r", "-rrequirements.txt", "--index-url=https://example.org", "-e .", "-", "--",
		"https://example.org/x.whl", "git+https://example.org/x", "./x", "/etc/passwd", "../x", "x/y", `x\y`, "x.whl/", ".x", "x.", "_x", "x_",
		"a b", "a, b", "a\nb", "a\n--index-url https://example.org", "a\r--pre", "a\x00", "a\tb", "ä", "a\u200b", "a --pre", "a==1 --hash=sha256:00",
		"a==", "a=1", "a==1==2", "a==1,", "a>=1 <2", "a==x", "a>=1.*", "a>1+local", "a~=1", "a==1.0.dev1.*", "a<>1", "a==1;b==2", "a (==1", "a ==1)",
		"a===", "a===$(id)", "a==${X}", "a==1 # comment", "a[", "a[]]", "a[b", "a[-b]", "a[b c]", "a[b;c]",
		"a;", "a; ", "a;x", "a;python_version", "a;python_version<", "a;python_version<3", "a;(python_version<'3'", "a;python_version<'3')", "a;python_version<'3' and", "a;home=='x'",
		"a;python_version<'3' python_version<'4'", "a;not in 'x'", "a;'x' not 'y'", "a @", "a @ x", "a @ ./x", "a @ https://x y", "a @ -r",
		"a.whl", "a-1.0-py3-none-any.WHL", "a-1.tar.gz", "a.zip", "a.tgz", "a.zip[b]",
		strings.Repeat("a", packages.MaxRequirement+1), "a;" + strings.Repeat("(", 900),
	} {
		marked, _, _ := strings.Cut(text, ";")
		if text != marked+";" && text != marked+"; " || text == "" {
			if r, err := packages.Parse(text); err == nil {
				t.Errorf("%q: %+v", text, r)
			}
		}
	}
}

func TestNormalize(t *testing.T) {
	for _, name := range []string{"Friendly-Bard", "FRIENDLY_BARD", "friendly.bard", "friendly--._bard"} {
		if got := packages.Normalize(name); got != "friendly-bard" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a[b]>=1,<2;python_version<'3'")
	f.Add("a @ https://x ; os_name=='x'")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := packages.Parse(text)
		if err == nil && (strings.ContainsAny(r.String(), "\n\r\x00") || strings.HasPrefix(r.String(), "-") || packages.ParseName(r.Name) != nil) {
			t.Errorf("%q became %q", text, r)
		}
	})
}
