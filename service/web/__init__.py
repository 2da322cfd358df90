"""Web pages: views of the library -> templates -> HTML, and the small script that chats over the public API."""
