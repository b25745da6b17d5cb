"""What people see in a browser: the server's page, and finished runs as one HTML file.

The files beside this one need no build step: `run.js` and `run.css` show a run, wherever it is;
`index.html`, `page.js` and `page.css` are the live page around it.
"""
