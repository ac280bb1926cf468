"""Where the files of a search and its data are kept: folders and object stores."""
