constants layer=16383 section=1 offset=1547902478 address=16777215 count=8814203 wait(load,weights,matrix,vector,store) signal(weights)
