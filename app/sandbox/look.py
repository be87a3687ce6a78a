"""How the stand-in's pages look. Phone first; no page needs a script."""

from html import escape

STYLE = """
 body{font:16px/1.45 system-ui,sans-serif;max-width:38rem;margin:0 auto;padding:0 1rem 3rem;
  color:#0f1419;background:#fff;color-scheme:light dark}
 a{color:#1d9bf0}
 article{border-top:1px solid #cfd9de;padding:.7rem 0}
 article article{border:0;border-left:3px solid #1d9bf0;margin:.5rem 0 0;
  padding:.1rem 0 .1rem .8rem}
 p{margin:.15rem 0;white-space:pre-wrap;overflow-wrap:anywhere} small,time{color:#536471}
 input,select,textarea,button{font:inherit;width:100%;box-sizing:border-box;margin:.2rem 0;
  padding:.5rem;border:1px solid #8b98a5;border-radius:.4rem;background:inherit;color:inherit}
 button{background:#0f1419;color:#fff;border:0;border-radius:2rem}
 button.second{background:inherit;color:inherit;border:1px solid #8b98a5}
 [role=alert]{color:#b00020}
 @media (prefers-color-scheme:dark){body{background:#15202b;color:#e7e9ea}
  small,time{color:#8b98a5} article{border-color:#38444d} button{background:#e7e9ea;color:#15202b}
  [role=alert]{color:#ff8a94}}
"""


def page(title: str, content: str) -> str:
    """`content` is markup."""
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style><h1>{escape(title)}</h1>
{content}</html>"""


def alert(problem: str) -> str:
    return f'<p role="alert">{escape(problem)}</p>' if problem else ""


def hidden(fields: dict[str, str]) -> str:
    return "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in fields.items()
    )
