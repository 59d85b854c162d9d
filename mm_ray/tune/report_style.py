"""The report's style sheet."""

CSS = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 1080px; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.7rem; margin-bottom: .3rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .3rem; border-bottom: 1px solid #e4e7eb; padding-bottom: .25rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
.note { color: #616e7c; font-size: .9rem; margin: .3rem 0; }
.empty { background: #f5f7fa; border-left: 4px solid #cbd2d9; padding: .6rem 1rem; }
.cards { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }
.card { flex: 1 1 12rem; border: 1px solid #e4e7eb; border-radius: 8px; padding: .8rem 1.1rem; }
.card b { display: block; font-size: 1.8rem; line-height: 1.2; }
.card span { color: #616e7c; font-size: .9rem; }
.card em { display: block; color: #a8321f; font-style: normal; }
.card:first-child:not(.chance) { border-color: #0b6e4f; background: #f0f8f5; }
pre { background: #1f2933; color: #f5f7fa; padding: .8rem 1rem; border-radius: 6px; overflow-x: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .7rem; border-bottom: 1px solid #e4e7eb; white-space: nowrap; }
th { color: #616e7c; font-weight: 600; }
tr.best td { background: #f0f8f5; font-weight: 600; }
"""
